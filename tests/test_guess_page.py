"""Guesses in the page: asked, covered, revealed, judged and summed up in a browser."""

import random
import re

import nbformat
import pytest
from axe import serious
from guessing import spoken_of

from kdnb.course.interactive.guess_views import Summary
from kdnb.course.interactive.guesses import Guessed
from kdnb.course.interactive.widgets import WIDGET_VIEW, Guess, Prediction
from kdnb.course.report.page import render_chapter, render_page
from kdnb.course.report.slides import render_slides, slides_of
from kdnb.tasks import TASKS

pytestmark = pytest.mark.slow
TASK = "mnist-small"
HOSTILE = "<script>alert(1)</script>"


def code(*shown, **metadata):
    outputs = []
    for each in shown:
        made = each._repr_mimebundle_()
        data, about = made if isinstance(made, tuple) else (made, {})
        data = {kind: value for kind, value in data.items() if kind != WIDGET_VIEW}
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=about))
    return nbformat.v4.new_code_cell("show()", outputs=outputs, metadata=metadata)


text = nbformat.v4.new_markdown_cell


def gain(key="02", question="Gain in accuracy:"):
    return Guess(question, -5, 15, 2, unit="points", digits=2, task=TASK, key=key)


def effect(number):
    choices = ["less is learnt", "no difference"]
    return Prediction(f"Bug {number}: which effect?", choices, choices[1], -80, 20, 0,
                      unit="points", digits=2, step=0.5, task=TASK, key=f"08/{number}")  # fmt: skip


def chapters_of_guesses():
    """A chapter with one guess, one with two, and the summary in a third."""
    guess, first, second = gain(), effect(1), effect(2)
    one = [text("# Does it help?"), text("## Predict\n\nBy how much?"), code(guess),
           text("## Why\n\nBECAUSE, [see there](#there)."), code(guess.reveal(7.5, 6.4, 8.6)),
           text("## What this does not show\n\nLIMITS")]  # fmt: skip
    two = [text("# Which bugs?"), code(first),
           code(first.reveal_choice("less is learnt", -2.0, -3.0, -1.0, before="FIRST")),
           text("## The second"), code(second),
           code(second.reveal_choice("no difference", 0.5, -1.0, 2.0, before="SECOND")),
           ]  # fmt: skip
    last = [text("# Answers"), text("## Your guesses"), code(*Summary(TASKS[TASK]).parts)]
    return one, two, last


def page_of(chapters):
    names = [f"{number:02d}" for number in range(len(chapters))]
    made = [
        render_chapter(nbformat.v4.new_notebook(cells=cells), name, names)
        for cells, name in zip(chapters, names, strict=True)
    ]
    return render_page(made, title="Guess", about="A test.", facts=[])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "guess.html"
    path.write_text(page_of(chapters_of_guesses()), encoding="utf-8")
    return path


@pytest.fixture
def visit(browser, file):
    """``visit(hash, path, ...)``: the page in a context of its own; a complaint fails the test."""
    contexts, complaints = [], []

    def visit(address="", path=file, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.route(re.compile("^https?:"), lambda route: route.abort())
        page.goto(path.as_uri() + address)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []


def words(page):
    """Of the two chapters before the summary, as they are shown."""
    return "\n".join(page.locator(".chapter").all_inner_texts()[:2])


def found(page):
    """The words that stand for a part of the page each."""
    return re.findall("BECAUSE|LIMITS|FIRST|SECOND", words(page))


def reveal(page, number=0, name="Reveal"):
    return page.locator(".guess").nth(number).get_by_role("button", name=name, exact=True)


# Cover and reveal


def test_what_follows_a_guess_is_covered_until_it_is_revealed(visit):
    page = visit()
    assert "By how much?" in words(page) and "Gain in accuracy:" in words(page)
    assert found(page) == [] and "7.50" not in words(page) and "-2.00" not in words(page)
    # Neither shown nor read out.
    snapshot = page.locator("main").aria_snapshot()
    assert "Reveal without a guess" in snapshot and "BECAUSE" not in snapshot
    reveal(page).click()
    assert found(page) == ["BECAUSE", "LIMITS"]  # not another chapter
    assert words(page).count("+7.50 points (95 % interval +6.40 to +8.60)") >= 2
    assert words(page).count("Your guess: +2.00 points (too low by 5.50)") == 2


def test_a_guess_is_made_and_revealed_by_keyboard(visit):
    page = visit()
    slider = page.get_by_role("slider", name="your guess").first
    slider.focus()
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowLeft"):
        page.keyboard.press(key)
    assert slider.get_attribute("aria-valuetext") == "+14.50 points"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said = page.locator(".guess [role=status]").first
    assert said.evaluate("it => it === document.activeElement")
    assert "Result: +7.50 points" in said.inner_text()
    assert "Your guess: +14.50 points (too high by 7.00)." in said.inner_text()
    assert slider.is_disabled() and reveal(page).is_hidden()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the result
    assert page.locator(":target").inner_text().startswith("Result: +7.50 points")
    # The choice, and the other button, which gives no guess.
    choice = page.get_by_role("combobox", name="what happens").first
    choice.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    said = page.locator(".guess [role=status]").nth(1).inner_text()
    assert said.startswith("Outcome: less is learnt. Result: -2.00 points")
    assert "You predicted less is learnt, which is right. Your guess: -0.50 points" in said
    page.get_by_role("button", name="Reveal without a guess").focus()
    page.keyboard.press("Enter")
    assert "You made no guess." in page.locator(".guess [role=status]").nth(2).inner_text()


def test_each_reveal_opens_up_to_the_next_guess(visit):
    page = visit()
    assert page.locator(".guess").nth(2).is_hidden()
    reveal(page, 1).click()
    shown = words(page)
    assert "FIRST" in shown and "The second" in shown and "Bug 2" in shown
    assert "SECOND" not in shown and "You predicted no difference, which is wrong." in shown
    reveal(page, 2).click()
    assert "SECOND" in words(page)
    assert "You predicted no difference, which is right." in words(page)
    assert "within the interval" in words(page)


def test_one_switch_shows_all_answers_and_covers_them_again(visit):
    page = visit()
    switch = page.get_by_role("checkbox", name="show all answers")
    switch.check()
    assert found(page) == ["BECAUSE", "LIMITS", "FIRST", "SECOND"]
    assert page.locator(".covered, .curtain:visible").count() == 0
    reveal(page).click()  # the first guess still counts
    switch.uncheck()
    assert "BECAUSE" in words(page) and "FIRST" not in words(page)


def test_what_is_asked_for_by_link_address_or_component_is_shown(visit):
    page = visit("#00-2", reduced_motion="reduce")
    assert "BECAUSE" in words(page) and "FIRST" not in words(page)
    assert page.locator("h3", has_text="Why").bounding_box()["y"] < 400
    page.evaluate("location.hash = '01-1'")
    page.get_by_text("SECOND", exact=True).wait_for()
    page = visit(reduced_motion="reduce")
    page.get_by_role("link", name="The second").click()
    assert "SECOND" in words(page) and "BECAUSE" not in words(page)
    box = page.locator("h3", has_text="The second").bounding_box()
    assert 0 <= box["y"] < 800
    page.evaluate("""document.querySelector(".beside").dispatchEvent(
      new CustomEvent("reveal", { bubbles: true }))""")
    assert "BECAUSE" in words(page)
    # The contents lead to the guess itself without giving the answer.
    page = visit()
    page.get_by_role("link", name="Predict").click()
    assert "BECAUSE" not in words(page) and page.locator(".covered").count() > 0


def test_paper_and_pages_without_scripts_show_everything_and_no_controls(visit):
    page = visit()
    page.emulate_media(media="print")
    plain = visit(java_script_enabled=False)
    for each in (page, plain):
        shown = words(each)
        assert found(each) == ["BECAUSE", "LIMITS", "FIRST", "SECOND"]
        assert shown.count("Gain in accuracy:") == 1 and "+7.50 points (95 %" in shown
        assert (
            not each.locator("main :is(input, select, button:not(.term))")
            .locator("visible=true")
            .count()
        )
        assert spoken_of(shown) == []
    assert plain.locator("#show-answers").is_hidden()


# The summary


def test_the_summary_follows_the_guesses(visit):
    page = visit()
    summary = page.locator(".component", has=page.locator("tbody")).last
    said = summary.locator("[role=status]")
    summary.locator("summary").click()
    rows = summary.locator("details tbody tr")
    assert said.inner_text().startswith("You made 0 of 3 guesses: 0 within the interval or right")
    assert rows.nth(0).inner_text().split("\t")[:3] == ["02", "Gain in accuracy", "no guess"]
    assert summary.locator("svg.guesses .ring").count() == 0
    slider = page.get_by_role("slider", name="your guess").first
    slider.press("End")
    reveal(page).click()
    reveal(page, 1).click()
    reveal(page, 2, "Reveal without a guess").click()
    assert said.inner_text() == (
        "You made 2 of 3 guesses: 0 within the interval or right, 0 too low, 2 too high. "
        "Of 1 predicted outcomes 0 came true."
    )
    assert rows.all_inner_texts() == [
        "02\tGain in accuracy\t+15.00 points\t+7.50 points (95 % interval +6.40 to +8.60)\t"
        "too high by 7.50",
        "08/1\tBug 1: which effect?\t+0.00 points, no difference\t"
        "-2.00 points (95 % interval -3.00 to -1.00), less is learnt\ttoo high by 2.00",
        "08/2\tBug 2: which effect?\tno guess\t"
        "+0.50 points (95 % interval -1.00 to +2.00), no difference\t–",
    ]
    rings = summary.locator("svg.guesses .ring").evaluate_all(
        "all => all.map(it => it.transform.baseVal[0].matrix.e)"
    )
    line = summary.locator("svg.guesses .grid").first
    left, right = line.evaluate("it => [it.x1, it.x2].map(x => x.baseVal.value)")
    assert rings == [right, pytest.approx(left + 0.8 * (right - left))]
    chart = summary.get_by_role("img").last.get_attribute("aria-label")
    assert "02 result +7.50 points" in chart and "your guess +15.00 points" in chart


def test_guesses_stay_in_the_page(visit):
    page = visit()
    reveal(page).click()
    kept = "() => [location.hash, document.cookie, localStorage.length, sessionStorage.length]"
    assert page.evaluate(kept) == ["", "", 0, 0]
    page.reload()
    assert reveal(page).is_visible() and "BECAUSE" not in words(page)


# Words and numbers


def judgement(draw):
    """A result and a guess; half of the numbers are at ties of the rounding."""
    step = draw.choice([0.125, 0.25, 0.5, 3.75, 0.05, 0.1])
    spread = draw.choice([1, 20, 500])

    def number():
        return draw.choice([step * draw.randint(-spread, spread), draw.uniform(-spread, spread)])

    value, guess = number(), step * draw.randint(-spread, spread)
    ends = draw.choice([sorted((number(), value)), sorted((guess, value)), (None, None)])
    if draw.random() < 0.05:
        value, ends = None, (None, None)
    slider = draw.choice([[-spread, spread], [0, spread]])
    digits = draw.choice([0, 1, 2, 3])
    return Guessed("?", "points", digits, slider, 0, value, *ends), guess


def test_the_page_judges_in_pythons_words(visit):
    draw = random.Random(0)
    cases = [judgement(draw) for _ in range(3_000)]
    page = visit()
    said = page.evaluate(
        "cases => cases.map(([one, guess]) => [inUnit(one, guess), judged(one, one, guess)])",
        [[vars(one), guess] for one, guess in cases],
    )
    expected = [[one.number(guess), one.judged(guess)] for one, guess in cases]
    both = zip(cases, said, expected, strict=True)
    assert [(case, got) for case, got, right in both if got != right] == []
    verdicts = {verdict.split(" by")[0] for _, verdict in expected}
    assert verdicts == {"within the interval", "too high", "too low", "right",
                        "nothing to compare with"}  # fmt: skip


def test_a_question_and_choices_from_data_are_text(visit, tmp_path):
    guess = Prediction(HOSTILE, [HOSTILE, "b"], "b", 0, 9, 4, unit=HOSTILE, task=TASK, key=HOSTILE)
    cells = [text("# A"), code(guess), code(guess.reveal_choice(HOSTILE, 3.0, 2.0, 4.0))]
    path = tmp_path / "hostile.html"
    path.write_text(page_of([[*cells, code(*Summary(TASKS[TASK]).parts)]]), encoding="utf-8")
    page = visit(path=path)
    scripts = page.locator("script").count()
    reveal(page).click()
    assert page.locator("script").count() == scripts == 1 + 3
    places = (".guess .question", ".guess option", ".guess [role=status]", ".beside > p", "tbody")
    for place in places:
        assert any(HOSTILE in each for each in page.locator(place).all_text_contents()), place


# Accessibility


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_before_and_after(visit, scheme, width):
    page = visit(width=width, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    for number in (None, 0, 1, 2):
        if number is not None:
            reveal(page, number).click()
        grave, passed = serious(page)
        assert grave == {} and passed > 10
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_slides_a_guess_covers_nothing(visit, tmp_path):
    guess = gain()
    cells = [
        text("# A", metadata={"slideshow": {"slide_type": "slide"}}),
        code(guess, slideshow={"slide_type": "-"}),
        text("## B\n\nBECAUSE", metadata={"slideshow": {"slide_type": "slide"}}),
        code(guess.reveal(7.5, 6.4, 8.6), slideshow={"slide_type": "-"}),
    ]
    path = tmp_path / "slides.html"
    made = slides_of(nbformat.v4.new_notebook(cells=cells))
    path.write_text(render_slides(made, "Guess"), encoding="utf-8")
    page = visit(path=path)
    page.locator(".reveal.ready").wait_for()
    assert page.locator(".covered").count() == 0
    page.get_by_role("slider", name="your guess").press("ArrowRight")
    reveal(page).press("Enter")
    assert page.evaluate("Reveal.getIndices().h") == 0
    assert "Your guess: +2.50 points (too low by 5.00)" in page.inner_text("section.present")
    page.keyboard.press("PageDown")
    shown = page.inner_text("section.present")
    assert "BECAUSE" in shown and "Result: +7.50 points" in shown and "Your guess: +2.50" in shown
