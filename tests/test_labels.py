"""Names from data in figures: short, different from each other, in letters that can be drawn."""

import json

import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager, get_data_path
from matplotlib.figure import Figure

from kdnb.course import figures, labels
from kdnb.course.interactive.components import STATIC
from kdnb.course.labels import note, shortened, written
from kdnb.evaluation.metrics import confusion

QUICK = settings(max_examples=60, deadline=None)
# Any text, and texts that begin or end alike: those are hard to tell apart once they are cut.
NAMES = st.lists(
    st.text(min_size=1, max_size=40)
    | st.builds("{0}{1}{2}".format, st.just("x" * 15), st.text("ab…", max_size=6), st.just("y" * 9))
    | st.sampled_from(["class 0", "class 1", "猫", "犬", "a b (1)", "xxxxxxxxxxxxxxx…"]),
    min_size=1,
    max_size=8,
    unique=True,
)


@pytest.fixture(scope="module", autouse=True)
def matplotlibs_own_fonts():
    """A machine that has no other ones."""
    manager = font_manager.fontManager
    own = [font for font in manager.ttflist if font.fname.startswith(get_data_path())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "ttflist", own)
        labels._fonts_for.cache_clear()
        yield
    labels._fonts_for.cache_clear()


@given(NAMES)
@QUICK
def test_names_that_differ_are_written_differently(names):
    for short in (written(names), shortened(names)):
        assert len(set(short)) == len(names)
        assert all(len(text) <= 40 and text == " ".join(text.split()) for text in short)


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=16), min_size=1, max_size=9, unique=True))
@QUICK
def test_short_names_stay_as_they_are(names):
    assert written(names) == shortened(names) == names
    assert note(names) == ""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["seventeen letters"], ["seventeen lette…"]),
        (["black-capped birds", "black-capped bison"], ["black-ca…d birds", "black-ca…d bison"]),
        # Alike at both ends: told apart by their numbers.
        (
            ["black-capped bit A of a bird", "black-capped bit B of a bird"],
            ["black-ca… (0)", "black-ca… (1)"],
        ),
        # The first cut takes what another class is called.
        (["abcdefghijklmnopq", "abcdefghijklmno…"], ["abcdefgh…klmnopq", "abcdefghijklmno…"]),
        (["a  b", "a b"], ["a b (0)", "a b (1)"]),
        (["two\nlines", "tab\there"], ["two lines", "tab here"]),
        (["cafe\u0301"], ["caf\u00e9"]),
        (["safe\u202etxt.exe"], ["safetxt.exe"]),  # no turning of the text that follows
        (["犬" * 9], ["犬" * 7 + "…"]),  # twice as wide as Latin letters
    ],
)
def test_names_are_cut(names, expected):
    assert shortened(names) == expected


@pytest.mark.parametrize("name", ["$5", "US$ and AU$", "$\\foo$", "a_b^c", "100 %", "\\alpha {"])
def test_names_are_no_mathematics(name):
    figure = Figure()
    figure.subplots().set_title(written([name])[0])
    assert figures.Picture(figure, "a title").png  # a formula that cannot be read would raise


@pytest.mark.parametrize("name", ["猫", "ไทย", "हिन्दी", "🦜", "\x00\x1b", " ", "\udcff"])
def test_what_no_font_can_draw_gets_its_number(name):
    assert written(["cat", name]) == ["cat", "class 1"]
    assert written(["cat", name], kind="method") == ["cat", "method 1"]
    assert note(["cat", name]) == f"Figures shorten some class names: *class 1* is {name}."


@pytest.mark.parametrize("name", ["Ünïcødé", "Ελλάδα", "кошка", "שלום", "عربي", "Tiếng Việt"])
def test_what_a_font_can_draw_is_drawn(name):
    """A letter without a glyph would be a warning, and here an error."""
    names = [name, "x"]
    assert written(names) == names
    picture = figures.confusion_matrix(confusion(torch.eye(2), torch.tensor([0, 1])), names)
    assert picture.png and not note(names)


@pytest.fixture
def cat_font(tmp_path, monkeypatch):
    """A machine with a font that has one letter, 猫: a square."""
    pen = TTGlyphPen(None)
    for draw, at in zip("mlll", [(0, 0), (0, 1000), (1000, 1000), (1000, 0)], strict=True):
        (pen.moveTo if draw == "m" else pen.lineTo)(at)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "cat"])
    font.setupCharacterMap({ord("猫"): "cat"})
    font.setupGlyf({name: pen.glyph() for name in (".notdef", "cat")})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "cat": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Cats", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "cats.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", list(font_manager.fontManager.ttflist))
    font_manager.fontManager.addfont(tmp_path / "cats.ttf")
    labels._fonts_for.cache_clear()
    yield "Cats"
    labels._fonts_for.cache_clear()


def test_a_font_of_this_machine_is_used(cat_font):
    names = ["猫", "犬"]
    assert written(names) == ["猫", "class 1"]
    figure = Figure()
    title = figure.subplots().set_title("a 猫")
    plain = figure.axes[0].set_xlabel("a cat")
    figures.Picture(figure, "a title")
    assert title.get_fontfamily() == ["sans-serif", cat_font]
    assert plain.get_fontfamily() == ["sans-serif"]


@pytest.mark.slow
@given(NAMES)
@settings(max_examples=8, deadline=None)
def test_any_names_can_be_drawn_and_read(names):
    """No warning, no error, and the words have the whole names."""
    classes = len(names) + 1
    names = [*names, "last"] if "last" not in names else [*names, "the last"]
    image, logits = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.arange(float(classes))
    picture = figures.softened(image, logits, names, [1, 4], 0)
    assert picture.png and f"labelled {names[0]}" in picture.alt


def test_the_page_cuts_as_the_course_does(browser):
    names = ["a name of seventeen", "another name of it", "a name of seventies", "cat", "🦜" * 20]
    script = (STATIC / "page" / "base.js").read_text(encoding="utf-8")
    page = browser.new_page()
    cut = page.evaluate(f"{script}\nshortened({json.dumps(names)}, 12)")
    page.close()
    assert cut == ["a name…nteen", "another nam…", "a name…nties", "cat", "🦜" * 11 + "…"]
