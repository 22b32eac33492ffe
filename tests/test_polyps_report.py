"""The course on generated polyps: the same notebooks, other data, networks and scores."""

import json
import re

import nbformat
import pytest

from kdnb.course.report.protocol import OTHER_DATA, PROVENANCE, THIS_DATA
from kdnb.data.polyps import STAMP
from kdnb.models.narrow import ORIGIN

pytestmark = pytest.mark.slow
METHODS = (
    "teacher",
    "teacher with subclasses",
    "teacher, annotators' votes",
    "student without teacher",
    "student + conventional KD",
    "student + subclass KD",
    "student + KD, annotators' votes",
    "always HP",
)


@pytest.fixture(scope="module")
def made(reports):
    """The folder of the polyps report."""
    return reports[0]


@pytest.fixture(scope="module")
def scores(made):
    """The table of scores that holds all methods: notebook 03's."""
    record = json.loads((made / "polyps.json").read_text())
    tables = [result for result in record["results"] if "scores" in result]
    (whole,) = (table for table in tables if set(METHODS) <= set(table["scores"]))
    return whole


def test_all_chapters_but_the_first_ran_to_their_end(made):
    executed = sorted((made / "polyps").glob("*.ipynb"))
    assert [path.name[:2] for path in executed] == ["01", "02", "03", "04", "05", "06"]
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert cell.execution_count is not None, (path.name, cell.id)
                assert "error" not in [output.output_type for output in cell.outputs]


def test_all_methods_stand_beside_each_other_with_intervals(scores):
    assert scores["images"] == 1_000
    for label in METHODS:
        for score in scores["scores"][label].values():
            assert 0 <= score["low"] <= score["mean"] <= score["high"] <= 1
    constant = scores["scores"]["always HP"]
    assert constant["AUC"]["mean"] == constant["balanced accuracy"]["mean"] == 0.5
    assert scores["scores"]["teacher"]["AUC"]["low"] > 0.5  # it has learnt something
    assert scores["scores"]["student without teacher"]["AUC"]["low"] > 0.5


def test_the_page_says_what_is_a_gain_and_what_is_not(made, scores):
    page = (made / "polyps.html").read_text()
    said = re.findall(
        r"<strong>(A gain|A loss|Not distinguishable)</strong>: ([^:]*?) against", page
    )
    for label, gain in scores["gain"].items():
        verdicts = {verdict for verdict, about in said if about.replace("&#39;", "'") == label}
        if not label.startswith("teacher"):
            assert verdicts, label
        if gain["low"] <= 0 <= gain["high"] and "KD" in label:
            assert "Not distinguishable" in verdicts


def test_every_figure_and_table_is_stamped_but_those_of_other_data(made):
    """Counted in the executed notebooks; tables kept from MNIST and the digits' sweep bear none.

    A diagram states whether it shows data.
    """
    page, expected, others, diagrams = (made / "polyps.html").read_text(), 0, 0, 0
    for path in (made / "polyps").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                shown = "image/png" if "image/png" in data else "text/markdown"
                if shown in data and (shown == "image/png" or "| --- |" in data[shown]):
                    about = output.metadata.get(shown, {})
                    others += OTHER_DATA in about
                    # The page gathers provenance at its end.
                    expected += not {OTHER_DATA, PROVENANCE} & set(about)
                diagrams += THIS_DATA in output.get("metadata", {}).get("text/html", {})
    assert expected > 25 and diagrams >= 5
    cover = 1
    assert page.count(f'<p class="stamp">{STAMP}</p>') == cover + expected + diagrams
    assert others == 4
    stamped_mnist = re.search(r"report/reference/final.json[^§]{0,80}class=.stamp", page)
    assert stamped_mnist is None
    assert "no patient, no medical meaning" in page


def test_random_weights_are_said_where_the_task_is_described(made):
    page = (made / "polyps.html").read_text()
    for role in ("teacher", "student"):
        said = f"<strong>The {role} starts from {ORIGIN}.</strong>"
        assert page.count(said) == 1
        assert page.index(said) < page.index('<section class="chapter">')
