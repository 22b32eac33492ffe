"""The notebooks under a reader's hands: in JupyterLab, in a real browser, by keyboard."""

import json
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from lab import command_of, moved, named
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
TWENTY = ["ArrowRight"] * 12 + ["ArrowLeft"] * 8

TRAINING = [
    """from dataclasses import replace
from kdnb import tasks
from kdnb.course.interactive.progress import Progress
from kdnb.experiment.experiment import Experiment

digits = tasks.task("mnist-small")
config = replace(digits.teacher_config, epochs=500)
lab = Experiment(replace(digits, teacher_config=config), watch=Progress())""",
    """teacher = lab.teacher(0)
print("kept", len(teacher.history.epochs), "interrupted", teacher.history.interrupted)""",
    """print("alive", 6 * 7)""",
]


def outputs_of(page):
    return page.locator(".jp-Cell-outputArea")


def slider(page, name):
    """By its accessible name, as a screen reader finds it."""
    return page.get_by_role("slider", name=name, exact=True)


def framed(page, title):
    """The component in a frame; frames out of sight draw nothing."""
    outer = page.locator(f"iframe[title='{title}']")
    outer.wait_for()
    outer.scroll_into_view_if_needed()
    component = outer.content_frame.locator(".component")
    component.locator("[role=status]").wait_for()
    return component


def test_every_move_of_the_slider_and_a_stroke_on_the_pad_are_answered(reports, jupyterlab):
    with jupyterlab("00_what_is_distillation.ipynb", runs=reports[1]) as page:
        component = framed(page, "Softened probabilities by temperature")
        handle, says = slider(component, "temperature"), component.locator("[role=status]")
        before = says.inner_text()
        words = [said for _, said in moved(handle, TWENTY)]
        reading = handle.get_attribute("aria-valuetext")
        choice = component.get_by_role("combobox", name="image", exact=True)
        choice.press("ArrowDown")
        expect(says).not_to_have_text(words[-1])
        pictures = page.locator(".jp-OutputArea-output img").evaluate_all(
            "images => images.map(image => image.alt)"
        )
        answers = drawn_and_heated(page)
    assert len(words) == 20 and all(a != b for a, b in pairwise([before, *words]))
    # One step is an eighth of a doubling: from 4 to 4 · 2^(1/8) = 4.362, and after 12 - 8 to 5.657.
    assert "At T = 4.00 " in before and "At T = 4.36 " in words[0] and "At T = 5.66 " in words[-1]
    assert reading == "T = 5.66", "the temperature, not its logarithm"
    assert len(pictures) >= 2 and all(len(alt) > 20 for alt in pictures)
    rested, drawn, hot = answers
    assert "At T = 4.00: teacher" in rested and "At T = 4.00: teacher 1 with" in drawn != rested
    assert "At T = 64.0: teacher 1 with" in hot


def drawn_and_heated(page):
    """What the pad says at rest, of a stroke from top to bottom, and of that at the highest T."""
    frame = framed(page, "Draw a digit")
    pad, says = frame.locator("canvas.pad"), frame.locator("[role=status]")
    expect(says).to_contain_text("At T =")
    answers = [says.inner_text()]
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 110, box["y"] + 200, steps=8)
    page.mouse.up()
    expect(says).not_to_have_text(answers[0])
    answers.append(says.inner_text())
    frame.locator("input[type=range]").press("End")
    expect(says).to_contain_text("At T = 64")
    return [*answers, says.inner_text()]


def test_both_sliders_of_the_loss_move(reports, jupyterlab):
    with jupyterlab("02_conventional_distillation.ipynb", runs=reports[1]) as page:
        component = framed(page, "The loss by T and soft_weight")
        seen = [component.locator("[role=status]").inner_text()]
        for name, keys in (("temperature", TWENTY), ("soft_weight", ["ArrowLeft"] * 5)):
            seen += [said for _, said in moved(slider(component, name), keys)]
        guess = slider(page, "your guess")
        start = guess.get_attribute("aria-valuenow")
        guess.press("ArrowRight")
        assert guess.get_attribute("aria-valuenow") != start
    assert len(seen) == 26 and all(a != b for a, b in pairwise(seen))
    assert "soft_weight 0.65" in seen[-1]


COMPONENTS = f"""import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from test_size_sweep import BIG, MIDDLE, SMALL, TINY
from kdnb.course import figures, interactive, tables
from kdnb.evaluation.saliency import Saliency
from kdnb.evaluation.statistics import Interval

images, maps = torch.zeros(2, 1, 28, 28, dtype=torch.uint8), torch.randn(2, 3, 28, 28)
costs, accuracy = dict.fromkeys(figures.BUDGETS, 5.0), Interval(0.97, 0.96, 0.98, 3)
display(interactive.sweep_explorer(tables.REFERENCE / "subclass_sweep.json"))
display(interactive.budget_explorer([BIG, MIDDLE, SMALL, TINY], costs, accuracy))
offered = dict.fromkeys(["teacher", "student"], dict.fromkeys(Saliency, maps))
display(interactive.saliency_picker(images, ["one", "two"], "abc", offered, start=2))"""


def test_components_answer_fit_their_frame_and_follow_the_theme(tmp_path, jupyterlab, monkeypatch):
    monkeypatch.setenv("JUPYTERLAB_SETTINGS_DIR", str(tmp_path / "settings"))
    made = made_notebook(tmp_path, "components", [COMPONENTS])
    with jupyterlab(made, runs=tmp_path / "store") as page:
        for title, controls in (
            ("Subclasses by loss, number and weight", ["loss", "subclasses", "weight"]),
            ("The best student within a budget", ["budget in", "budget"]),
            ("Saliency maps", ["image", "class", "map", "model"]),
        ):
            component = framed(page, title)
            said = component.locator("[role=status]").inner_text()
            for name in controls:
                control = named(component, name)
                keys = ["ArrowUp", "ArrowDown"]
                if control.evaluate("control => control.selectedIndex") == 0:
                    keys.reverse()
                other, again = (words for _, words in moved(control, keys))
                assert other != said == again, (title, name)
            outer = page.locator(f"iframe[title='{title}']")
            height = outer.evaluate("frame => frame.style.height")
            assert height != "560px", "what it has until it is told another"
            if component.locator("summary").count():
                component.locator("summary").click()
                expect(outer).not_to_have_css("height", height)
            inside = component.evaluate(
                "() => { const { scrollHeight, clientHeight } = document.documentElement;"
                " return scrollHeight - clientHeight; }"
            )
            assert inside == 0, title
        body = component.locator("xpath=ancestor::body")
        for theme, paper in (("Dark", "rgb(20, 24, 31)"), ("Light", "rgb(255, 255, 255)")):
            page.evaluate(
                "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
                f"JupyterLab {theme}",
            )
            expect(body).to_have_css("background-color", paper)


def made_notebook(folder, name, sources):
    """A notebook with these cells of code, beside where JupyterLab will work on its copy."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = folder / "made" / f"{name}.ipynb"
    path.parent.mkdir()
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": python})
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def training(tmp_path):
    return made_notebook(tmp_path, "training", TRAINING)


def test_the_stop_button_keeps_what_was_learnt_and_running_again_goes_on(
    training, tmp_path, jupyterlab
):
    runs = tmp_path / "store"
    with jupyterlab(training, runs=runs) as page:
        stop = page.get_by_role("button", name="Stop and keep the weights")
        page.get_by_text(re.compile(r"epoch ([3-9]|\d\d+) of 500.*images/s.*left")).wait_for()
        assert page.locator(".jupyter-widgets svg[aria-label*='Training curves']").count() == 1
        stop.click()
        page.get_by_text("alive 42").wait_for()
        kept = int(re.search(r"kept (\d+) interrupted True", page.inner_text(".jp-Notebook"))[1])
        assert stop.count() == 0
        assert kept >= 2 and len(list(runs.glob("part-*"))) == 1
        curves = page.locator(".jp-OutputArea-output img[alt*='Training curves']")
        assert curves.count() == 1

        page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
        command_of(page, "notebook:run-cell")
        going_on = page.get_by_text(re.compile(r"epoch \d+ of 500, continued at epoch \d+"))
        going_on.wait_for()
        # Where copying takes long, not every epoch has a checkpoint.
        continued = int(re.search(r"continued at epoch (\d+)", going_on.inner_text())[1])
        assert 1 < continued <= kept + 1
        page.wait_for_function(
            f"() => /epoch (\\d+) of 500/.exec(document.body.innerText)?.[1] >= {kept + 3}"
        )
        stop.click()
        page.get_by_text("interrupted True").wait_for()
        page.wait_for_function(f"() => !document.body.innerText.includes('kept {kept} ')")
        command_of(page, "docmanager:save")
        saved = wait_for_saved(page, tmp_path / training.name)
    outputs = saved.cells[1].outputs
    shown = [o for o in outputs if o.output_type == "display_data"]
    assert len(shown) == 1 and set(shown[0].data) == {"text/html", "text/plain"}
    assert len(json.dumps(shown)) < 3e5 and "stopped after" not in shown[0].data["text/plain"]


def wait_for_saved(page, path: Path):
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    return nbformat.read(path, as_version=4)


@pytest.fixture
def guessing(tmp_path):
    cells = [
        "from kdnb.course import bugs\n"
        "guess = bugs.ask(bugs.ALL[0], 1, 'mnist-small')\n"
        "display(bugs.ALL[0].snippet, guess)",
        "if guess.value:\n"  # running all cells reveals nothing yet
        "    display(guess.reveal_choice(bugs.Outcome.LESS.value, -2.0, -3.0, -1.0))",
    ]
    return made_notebook(tmp_path, "guessing", cells)


def test_what_is_guessed_before_the_answer_is_kept(guessing, tmp_path, jupyterlab):
    runs = tmp_path / "store"
    with jupyterlab(guessing, runs=runs) as page:
        choices = page.get_by_role("combobox", name="what happens")
        choices.wait_for()
        choices.select_option(label="less is learnt")
        slider(page, "your guess").press("ArrowLeft")
        page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
        command_of(page, "notebook:run-cell")
        page.get_by_text("You predicted less is learnt, which is right.").wait_for()
        said = page.inner_text(".jp-CodeCell >> nth=1")
        assert "Your guess: -0.50 points" in said and "too high by 1.50" in said
        assert page.locator(".jp-RenderedMarkdown pre span").count() > 10, "highlighted"
    (kept,) = json.loads((runs / "guesses-mnist-small.json").read_text()).values()
    assert kept["guess"] == -0.5 and kept["choice"] == "less is learnt" and kept["shown"]
