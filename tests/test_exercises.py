"""The checkers are right about planted answers, never raise, and stand where the cells are."""

import ast
import json
import sys
from contextlib import nullcontext
from itertools import combinations

import nbformat
import pytest
import torch
import torch.nn.functional as F
from attempts import BANK, CORRECT, FACTS, FUNCTIONS, key_of

from kdnb.__main__ import main
from kdnb.course import exercises
from kdnb.course.exercises import ALL, BY_KEY, attempt
from kdnb.course.exercises.exercise import Case, Question, first_unlike, reference
from kdnb.course.exercises.verdict import NOT_ATTEMPTED, NOT_YET
from kdnb.course.grading.homework import names_in, setting
from kdnb.course.report.editions import ANSWER, CHECK, PREFIXES, TEXT, edition, part_of_exercise
from kdnb.course.report.execution import find_notebooks

PLANTED = [
    pytest.param(BY_KEY[key], says, answer, id=f"{key}-{says}-{number}")
    for key, attempts in BANK.items()
    for number, (says, answer) in enumerate(attempts)
]
pytestmark = pytest.mark.usefixtures("patient")
kd_loss = exercises.kd_loss


def answer_of(source):
    """What the answer's cell defines."""
    names = {"torch": torch, "F": F}
    exec(source, names)
    return next(value for name, value in names.items() if name.startswith("my_"))


@pytest.mark.parametrize(("exercise", "says", "answer"), PLANTED)
def test_planted_answers_get_their_own_verdict(exercise, says, answer):
    verdict = exercise.check(answer, *FACTS.get(exercise.key, ()))
    if says == CORRECT:
        assert verdict.correct, str(verdict)
    else:
        assert (verdict.status, verdict.name) == (NOT_YET, says), str(verdict)
        assert verdict.read is not None


@pytest.mark.parametrize("exercise", ALL, ids=key_of)
def test_every_misconception_has_a_planted_answer(exercise):
    planted = {says for says, _ in BANK[exercise.key]}
    assert planted == set(exercise.mistakes) | {CORRECT}
    assert list(exercise.mistakes) == list(exercise.says) and set(exercise.read) <= planted


def test_there_are_many_misconceptions():
    assert sum(len(e.mistakes) for e in ALL) >= 25


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=key_of)
def test_stubs_are_not_attempted_and_solutions_are_correct(exercise):
    verdict = exercise.check(answer_of(exercise.stub))
    assert (verdict.status, verdict.name) == (NOT_ATTEMPTED, "")
    assert [h.title for h in verdict.help][-1] == "Solution" and len(verdict.help) >= 2
    assert exercise.check(answer_of(exercise.solved)).correct


@pytest.mark.parametrize("exercise", ALL, ids=key_of)
def test_wrong_references_are_far_from_the_right_one_and_from_one_another(exercise):
    """On some case they differ by a hundred times what the checker lets pass.

    So no answer within its tolerance can be taken for another.
    """
    if isinstance(exercise, Question):
        cases, clear = [Case("", FACTS[exercise.key])], 1.5 * exercise.tolerance
    else:
        cases, clear = exercise.cases, 0.01
    computed = [("right", reference(exercise.right, cases))]
    computed += [(name, reference(wrong, cases)) for name, wrong in exercise.wrong_references]
    for (name, some), (other_name, others) in combinations(computed, 2):
        if name != other_name:
            apart = first_unlike(some, others, clear)
            assert apart is not None, (name, other_name)


# Whatever is written, nothing is raised


def recursion(*arguments):
    return recursion(*arguments)


def endless(*arguments):
    while True:
        pass


def in_place(z, t):
    return z.div_(t).softmax(1)


def half_done(z, t):
    z = z / t


def leaves(z, t):
    sys.exit("bye")


class Odd:
    def __array__(self, *_, **__):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("answer", "name", "says"),
    [
        (lambda z, t: undefined, "an error", "NameError in line"),  # noqa: F821
        (lambda z: z, "an error", "TypeError"),
        (recursion, "an error", "RecursionError"),
        (leaves, "an error", "SystemExit"),
        (endless, "too slow", "more than a second"),
        (half_done, "nothing returned", "is a `return` missing?"),
        (in_place, "arguments changed", "argument number 1"),
        (lambda z, t: "four", "not a number", "here is a str"),
        (lambda z, t: Odd(), "not a number", "here is a Odd"),
        (lambda z, t: {}, "not a number", "here is a dict"),
        (lambda z, t: z[:, :1], "another shape", "shape is (3, 1) where (3, 4) is wanted"),
        (lambda z, t: z, "another number", "No single usual mistake"),
        (3, "not a function", "here is a int"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_named_and_not_raised(answer, name, says, monkeypatch):
    if answer is endless:
        monkeypatch.setattr(attempt, "FIRST_CALL", 0.2)
    verdict = exercises.softened_softmax.check(answer)
    assert (verdict.status, verdict.name) == (NOT_YET, name)
    assert says in verdict.text


@pytest.mark.parametrize(("seconds", "correct"), [([1.2], True), ([0, 1.2], False)])
def test_the_first_call_may_import(monkeypatch, seconds, correct):
    """By a clock that only the calls move on: so much each, and then no more."""
    now, left = [0.0], list(seconds)

    def slow(z, t):
        now[0] += left.pop(0) if left else 0
        return F.softmax(z / t, 1)

    monkeypatch.setattr(attempt, "TOO_LONG", 1.0)
    monkeypatch.setattr(attempt, "clock", lambda: now[0])
    monkeypatch.setattr(attempt, "_time_limit", lambda seconds: nullcontext())
    verdict = exercises.softened_softmax.check(slow)
    assert verdict.correct == correct and (correct or verdict.name == "too slow")


@pytest.mark.parametrize("answer", [None, ...])
def test_no_answer_is_no_attempt(answer):
    assert exercises.second_opinion.check(answer, *FACTS["second_opinion"]).status == NOT_ATTEMPTED


def test_a_question_with_a_wrong_answer_does_not_tell_the_right_one():
    verdict = exercises.second_opinion.check(7.0, *FACTS["second_opinion"])
    assert verdict.name == "another number" and "is 7." in verdict.text
    assert "1.3" not in verdict.text


@pytest.mark.parametrize("temperature", [1, 4, 64])
def test_the_praise_of_why_t2_has_the_lengths_that_its_exercise_asks_for(temperature):
    """A teacher with the logits 12, 0, …, 0 and a student with equal logits, ten classes."""
    teacher = 12 * F.one_hot(torch.tensor([0]), 10).double()
    gradient = exercises.why_t2.right(torch.zeros(1, 10).double(), teacher, temperature)
    length = (temperature**2 * gradient).norm()
    assert f"{length:.2f} at T = {temperature}" in exercises.why_t2.praise


# What is shown


def test_a_verdict_says_what_the_function_did_and_where_to_read():
    (answer,) = [answer for says, answer in BANK["kd_loss"] if says == "T² forgotten"]
    verdict = kd_loss.check(answer)
    plain = str(verdict)
    assert plain.startswith("✗ Not yet: T² forgotten. On 5 images of 4 classes at T = 4")
    yours, wanted = (f(*kd_loss.cases[0].arguments).item() for f in (answer, kd_loss.right))
    assert f"gives {yours:.4g} where {wanted:.4g} is wanted" in plain
    assert plain.endswith("Read again: Why T squared (notebook 02).")
    shown = verdict._repr_mimebundle_()
    assert shown["text/plain"] == plain
    assert 'role="status"' in shown["text/html"] and "Not yet: T² forgotten" in shown["text/html"]
    assert shown["text/html"].count("<details><summary>") == len(kd_loss.hints) + 1


def test_links_are_for_a_live_reader(monkeypatch):
    verdict = kd_loss.check(kd_loss.cases)
    assert "<a " not in verdict._repr_mimebundle_()["text/html"]
    monkeypatch.setattr("kdnb.course.exercises.verdict.live_kernel", lambda: True)
    link = '<a href="02_conventional_distillation.ipynb#The-loss">'
    assert link in verdict._repr_mimebundle_()["text/html"]


def test_what_the_readers_code_says_is_escaped():
    def answer(z, t):
        raise ValueError("<script>alert(1)</script>")

    shown = exercises.softened_softmax.check(answer)._repr_mimebundle_()["text/html"]
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_hints_and_solutions_can_be_asked_for():
    assert str(kd_loss.hint()).startswith("Hint 1 of 3: Two terms.")
    assert "detach" in str(kd_loss.hint(3)) and str(kd_loss.hint(9)) == str(kd_loss.hint(3))
    shown = kd_loss.solution()._repr_mimebundle_()
    assert "def my_kd_loss" in shown["text/html"] and kd_loss.solved in shown["text/plain"]


# Cells and exercises agree


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def headings(path):
    return [
        line.lstrip("# ")
        for cell in cells_of(path)
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("#")
    ]


def test_every_exercise_stands_in_one_notebook_as_its_source_says():
    found = {TEXT: [], ANSWER: [], CHECK: []}
    for path in find_notebooks():
        for cell in cells_of(path):
            tag = part_of_exercise(cell)
            if tag is None or cell.id == "exercises-how":
                continue
            assert cell.id.startswith(PREFIXES[tag]), cell.id
            exercise = BY_KEY[cell.id.removeprefix(PREFIXES[tag])]
            found[tag].append(exercise.key)
            if tag == TEXT:
                assert cell.source.startswith(exercise.header.heading + "\n\n"), cell.id
            elif tag == ANSWER:
                assert cell.source == exercise.stub, cell.id
            else:
                call = f"exercises.{exercise.key}.check(my_{exercise.key}"
                assert cell.source.startswith("from kdnb.course import exercises\n\n" + call)
    for keys in found.values():
        assert keys == [e.key for e in ALL], "in the order of the course, each once"


@pytest.mark.parametrize("exercise", ALL, ids=key_of)
def test_paragraphs_to_read_again_exist(exercise):
    for place in {exercise.header.where, *exercise.read.values()}:
        (path,) = [p for p in find_notebooks() if p.stem == place.notebook]
        assert place.heading in headings(path), place
        # JupyterLab does not find what its link has to encode.
        assert place.heading.isascii(), place


# Editions


def test_the_students_edition_is_the_notebook():
    for path in find_notebooks():
        assert edition(path, "student") == nbformat.read(path, as_version=4)


def test_the_students_edition_has_neither_outputs_nor_what_was_tried_in_place(tmp_path):
    node = json.loads(find_notebooks(["02"])[0].read_text())
    for cell in node["cells"]:
        if cell["id"] == "answer-kd_loss":
            cell["source"] = "def my_kd_loss(): return 1"
            cell["execution_count"] = 7
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "secret"}]
    path = tmp_path / "02_mine.ipynb"
    path.write_text(json.dumps(node))
    assert edition(path, "student") == nbformat.read(find_notebooks(["02"])[0], as_version=4)


def test_the_instructors_edition_has_the_solutions():
    for path in find_notebooks():
        for before, after in zip(cells_of(path), edition(path, "instructor").cells, strict=True):
            if part_of_exercise(before) == ANSWER:
                assert after.source == BY_KEY[after.id.removeprefix("answer-")].solved
            else:
                assert after == before


def test_the_reports_edition_has_no_exercise_cells_and_all_else():
    for path in find_notebooks():
        left = [cell.id for cell in edition(path, "report").cells]
        kept = [c.id for c in cells_of(path) if not part_of_exercise(c)]
        assert left == [key for key in kept if key != "setup"]


def test_a_heading_with_nothing_left_below_it_goes_too(tmp_path):
    def cell(source, *tags):
        return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})

    cells = [cell("## A"), cell("text"), cell("## B"), cell("x", TEXT), cell("y", TEXT), cell("z")]
    path = tmp_path / "00_made.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert [c.source for c in edition(path, "report").cells] == ["## A", "text", "z"]


def test_editions_from_the_command_line(tmp_path, capsys):
    assert main(["edition", "instructor", "--output", str(tmp_path / "new")]) == 0
    written = sorted((tmp_path / "new").glob("*.ipynb"))
    assert [p.name for p in written] == [p.name for p in find_notebooks()]
    assert capsys.readouterr().out.split() == [str(p) for p in written]
    assert edition(find_notebooks(["00"])[0], "instructor") == nbformat.read(written[0], 4)


def needed(cells):
    """Code cells of exercises, and before them those that set what they use."""
    asked = [cell for cell in cells if cell.cell_type == "code" and part_of_exercise(cell)]
    set_here, used = names_in("\n".join(cell.source for cell in asked))
    others = (cell for cell in cells if not part_of_exercise(cell))
    return [*setting(others, used - set_here), *asked]


@pytest.mark.parametrize("path", find_notebooks(), ids=lambda p: p.stem[:2])
def test_an_unsolved_exercise_disturbs_no_other_cell(path):
    """What it sets is named as nothing else in the notebook is."""
    cells = [c for c in edition(path, "student").cells if c.cell_type == "code"]
    others = set().union(*(names_in(c.source)[1] for c in cells if not part_of_exercise(c)))
    for cell in cells:
        if part_of_exercise(cell):
            assert not names_in(cell.source)[0] & others, cell.id


@pytest.mark.slow
@pytest.mark.parametrize("path", find_notebooks(), ids=lambda p: p.stem[:2])
def test_editions_get_the_verdicts_they_should(path, reports, monkeypatch):
    """Stubs are not attempted and solutions correct, with what the notebook itself computes.

    Only what exercises need is run; the fixture has run the rest.
    """
    monkeypatch.setenv("KDNB_RUNS", str(reports[1]))
    for name, status in (("student", NOT_ATTEMPTED), ("instructor", CORRECT)):
        names = {}
        for cell in needed(edition(path, name).cells):
            *before, last = ast.parse(cell.source).body
            exec(compile(ast.Module(before, []), cell.id, "exec"), names)
            if part_of_exercise(cell) == CHECK:
                verdict = eval(compile(ast.Expression(last.value), cell.id, "eval"), names)
                assert verdict.status == status, f"{cell.id}: {verdict}"
            else:
                exec(compile(ast.Module([last], []), cell.id, "exec"), names)


@pytest.mark.slow
def test_a_reader_meets_a_misconception_hints_and_a_solution(tmp_path, jupyterlab):
    wrong = kd_loss.solved.replace("temperature**2 * ", "")
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    cells = [
        text(f"# A\n\n## {exercises.losses.WHY_T2.heading}\n\n" + "Read.\n\n" * 60),
        code(f"import torch.nn.functional as F\n\n{wrong}"),
        code("from kdnb.course import exercises\n\nexercises.kd_loss.check(my_kd_loss)"),
    ]
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = tmp_path / "made" / f"{exercises.losses.NOTEBOOK}.ipynb"
    made.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": python}), made)
    with jupyterlab(made, runs=tmp_path / "store") as page:
        verdict = page.get_by_role("status").filter(has_text="Not yet: T² forgotten")
        verdict.wait_for()
        assert "gives 0.7465 where 3.222 is wanted" in verdict.inner_text()
        # By keyboard: from the link to the first hint, which Enter opens.
        hint = verdict.get_by_text("The soft one compares two softened distributions")
        assert not hint.is_visible()
        verdict.get_by_role("link").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        hint.wait_for(state="visible")
        # By mouse: the solution.
        solution = verdict.get_by_text("log_target=True", exact=False).last
        assert not solution.is_visible()
        verdict.get_by_text("Solution", exact=True).click()
        solution.wait_for(state="visible")
        # And the paragraph to read again comes into view.
        heading = page.get_by_role("heading", name=exercises.losses.WHY_T2.heading)
        page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 1e6")
        verdict.get_by_role("link").click()
        page.wait_for_function(
            "h => { const y = h.getBoundingClientRect().y; return y > 0 && y < 400 }",
            arg=heading.element_handle(),
        )


def test_an_answer_without_an_exercise_is_said(tmp_path):
    tags = {"tags": [ANSWER]}
    cells = [nbformat.v4.new_code_cell("x = 1", id="answer-lost", metadata=tags)]
    path = tmp_path / "00_made.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    with pytest.raises(ValueError, match=r"00_made.ipynb: the cell answer-lost is tagged"):
        edition(path, "student")
    with pytest.raises(ValueError, match="unknown edition 'teacher': choose one of student"):
        edition(path, "teacher")
