"""Graded homework: marks and feedback of the real nbgrader, and no solution in students' hands."""

import csv
import html
import importlib
import inspect
import io
import json
import os
import subprocess
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from zipfile import ZipFile

import attempts
import nbformat
import numpy as np
import pytest
import torch
from attempts import BANK, CORRECT, FACTS, FUNCTIONS, key_of

from kdnb.__main__ import main
from kdnb.course import bugs, exercises
from kdnb.course.exercises import ALL, BY_KEY
from kdnb.course.exercises.exercise import Question
from kdnb.course.grading import TOOL, NotCorrectError, edition, require
from kdnb.course.grading.homework import GIVEN, SEVERAL, homework, visible_test
from kdnb.course.grading.package import PACKAGE, student_files, student_package
from kdnb.course.report.execution import find_notebooks
from kdnb.environment import seeded
from kdnb.losses import class_logits, distillation_loss

pytestmark = pytest.mark.usefixtures("patient")
OWN = "uses kdnb's own function"
# The engine computes what some exercises ask for, and students can read it. Nothing else may.
READABLE = {"kdnb/losses.py", "kdnb/training/predict.py", "kdnb/evaluation/similarity.py"}


def made_by(source, key):
    names = {}
    exec(GIVEN, names)
    exec(source, names)
    return names[f"my_{key}"]


# Answers must be the reader's own


@pytest.mark.parametrize("exercise", ALL, ids=key_of)
def test_where_answers_must_be_own_planted_ones_get_the_same_verdict(exercise):
    """Or are found to call kdnb: some of the bank do, and then nothing else is said."""
    for says, answer in BANK[exercise.key]:
        torch.set_grad_enabled(True)
        verdict = exercise.check(answer, *FACTS.get(exercise.key, ()), own=True)
        code = getattr(answer, "__code__", None)
        uses = {"evaluating", "similarity", "cost"} & set(code.co_names if code else ())
        if verdict.name == OWN:
            assert uses or "kdnb" in answer.__module__ or answer.__globals__.get("similarity"), says
        else:
            assert (verdict.name or CORRECT) == says, str(verdict)


@pytest.mark.parametrize("exercise", FUNCTIONS, ids=key_of)
def test_solutions_are_correct_and_the_checkers_own_are_recognised(exercise):
    assert exercise.check(made_by(exercise.solved, exercise.key), own=True).correct
    assert exercise.check(exercise.right, own=True).name == OWN
    assert exercise.check(exercise.right).correct


def quiet(logits, classes):
    try:
        return class_logits(logits, classes)
    except BaseException:
        return torch.logsumexp(logits.unflatten(1, (classes, -1)), 2)


@pytest.mark.parametrize(
    "answer", [class_logits, quiet, lambda z, c: [class_logits(z, c)][0]], ids=["it", "quiet", "in"]
)
def test_a_function_of_kdnb_is_found_under_every_name(answer):
    before = sys.getprofile()
    verdict = exercises.class_logits.check(answer, own=True)
    assert verdict.name == OWN and "calls kdnb's `class_logits`" in verdict.text
    assert sys.getprofile() is before
    assert exercises.class_logits.check(answer).correct


def test_a_hidden_test_raises_the_verdict_alone(capsys):
    with pytest.raises(NotCorrectError, match="✗ Not yet: the wrong way round") as raised:
        require("real_gain", lambda a, b: BANK["real_gain"][0][1](b, a))
    assert raised.value._render_traceback_() == [str(raised.value)]
    assert f"Read again: {exercises.real_gain.header.where}." in str(raised.value)
    (logits,) = FACTS["second_opinion"]
    require("second_opinion", 1.31, logits)
    assert capsys.readouterr().out.startswith("✓ Correct.")
    with pytest.raises(NotCorrectError, match="the third class"):
        require("second_opinion", 2.29, logits)


# Notebooks


@pytest.fixture(scope="module")
def made():
    return {path.stem: homework(path) for path in find_notebooks()}


def test_every_exercise_has_points_by_its_difficulty(made):
    assert [name[:2] for name, node in made.items() if node is None] == ["07", "08"]
    cells = [cell for node in made.values() if node for cell in node.cells]
    points = {cell.id: cell.metadata.nbgrader.get("points", 0) for cell in cells}
    for exercise in ALL:
        seen, hidden = (points.pop(f"{at}-{exercise.key}", 0) for at in ("visible", "check"))
        assert seen + hidden == 3 * exercise.header.difficulty
        assert (seen == 0) == isinstance(exercise, Question)
    assert not any(points.values())


def test_students_can_edit_answers_alone(made):
    for node in filter(None, made.values()):
        nbformat.validate(node)
        for cell in node.cells:
            about = cell.metadata.nbgrader
            assert about.grade_id == cell.id
            assert about.solution == (not about.locked) == cell.id.startswith("answer-")
            assert ("BEGIN SOLUTION" in cell.source) == about.solution
            assert ("BEGIN HIDDEN TESTS" in cell.source) == cell.id.startswith("check-")


def test_only_questions_bring_cells_of_their_chapter(made):
    chapters = {
        name[:2]: [c.id for c in node.cells if "-" not in c.id]
        for name, node in made.items()
        if node
    }
    alone = ["introduction", "given"]
    assert all(chapters[number] == alone for number in ("02", "03", "04", "06"))
    assert {"teacher", "logits", "explorer"} < set(chapters["00"])
    assert "calibration" in chapters["01"] and "count" in chapters["05"]


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("exercise", FUNCTIONS, ids=key_of)
def test_visible_tests_pass_with_correct_answers_and_fail_with_the_stub(exercise):
    test = visible_test(exercise)
    planted = [answer for says, answer in BANK[exercise.key] if says == CORRECT]
    for answer in [*planted, made_by(exercise.solved, exercise.key)]:
        names = {}
        exec(GIVEN, names)
        exec(test, names | {f"my_{exercise.key}": answer})
    for answer in (made_by(exercise.stub, exercise.key), lambda *given: torch.zeros(7)):
        with pytest.raises((AssertionError, TypeError)):
            exec(test, names | {f"my_{exercise.key}": answer})
    assert len(test) < 1000


@pytest.mark.parametrize("key", [e.key for e in ALL if isinstance(e, Question)])
def test_a_question_asks_for_as_many_numbers_as_it_has(key):
    shapes = {np.shape(answer) for says, answer in BANK[key] if says == CORRECT}
    assert shapes == {(SEVERAL[key],) if key in SEVERAL else ()}


# No solution anywhere


def plain(line):
    return " ".join(line.split("  #")[0].split())


def lines_of(text):
    return {plain(line) for line in text.splitlines()}


def telling(line):
    """Whether a line may be somebody's solution: not an import, a `with`, a bracket."""
    starts = ("import ", "from ", "with ", "#", '"""')
    return len(line) >= 20 and not line.startswith(starts)


def secrets():
    """Lines of solutions, of planted answers and of bugs; hints, verdicts, praise."""
    found = lines_of(Path(attempts.__file__).read_text(encoding="utf-8"))
    for exercise in ALL:
        found |= lines_of(exercise.solved) - lines_of(exercise.stub)
        found |= {*map(plain, (*exercise.hints, *exercise.says.values(), exercise.praise))}
    for module in Path(bugs.__file__).parent.glob("*.py"):
        found |= {line for line in lines_of(module.read_text(encoding="utf-8")) if len(line) > 40}
    return set(filter(telling, found))


def leaked(texts):
    """{file: secrets in it} of some texts by file."""
    wanted = secrets()
    assert len(wanted) > 400
    return {file: here for file, text in texts.items() if (here := wanted & lines_of(text))}


def test_the_students_package_holds_no_solution():
    files = student_files()
    assert not [name for name in files if name.endswith((".ipynb", ".md"))]
    assert not [name for name in files if "/bugs/" in name or "/grading/" in name]
    assert [name for name in files if "/exercises/" in name] == [
        "kdnb/course/exercises/__init__.py"
    ]
    texts = {name: data.decode(errors="replace") for name, data in files.items()}
    found = leaked(texts)
    assert set(found) <= READABLE, found
    whole = "\n".join(texts.values())
    told = {s for e in ALL for s in (*e.hints, *e.says.values(), e.praise)}
    assert not [says for says in told if says in whole]


def test_the_search_for_leaks_finds_them():
    source = Path(inspect.getsourcefile(type(exercises.kd_loss))).parent / "losses.py"
    kd = exercises.kd_loss.solved
    assert set(leaked({"a": source.read_text(encoding="utf-8"), "b": kd, "c": GIVEN})) == {"a", "b"}


def test_all_else_is_the_package():
    for name, data in student_files().items():
        if "/exercises/" not in name:
            assert (PACKAGE.parent / name).read_bytes() == data, name
    assert student_package() == student_package()  # the same bytes each time


def public():
    """Functions and classes of the students' package."""
    for name in student_files():
        place = Path(name).with_suffix("")
        if not name.endswith(".py") or place.name == "__main__" or "exercises" in name:
            continue
        parts = place.parts[:-1] if place.name == "__init__" else place.parts
        module = importlib.import_module(".".join(parts))
        for attribute, value in vars(module).items():
            if (
                not attribute.startswith("_")
                and getattr(value, "__module__", None) == module.__name__
            ):
                yield value


@pytest.mark.slow
@pytest.mark.parametrize("exercise", FUNCTIONS, ids=key_of)
def test_nothing_that_students_can_import_is_an_answer(exercise):
    """Not even what the engine computes right: it is not the student's own."""
    given = [value for value in public() if callable(value)]
    assert len(given) > 300 and {class_logits, distillation_loss, seeded} <= set(given)
    right = [value for value in given if exercise.check(value, own=True).correct]
    assert right == []


@pytest.mark.slow
def test_the_students_package_installs_and_imports(tmp_path):
    name, data = student_package()
    wheel = tmp_path / name
    wheel.write_bytes(data)
    with ZipFile(io.BytesIO(data)) as zipped:
        assert zipped.testzip() is None
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, tmp_path / "site", wheel], check=True)
    code = """
import importlib, importlib.util, pkgutil, kdnb
for module in pkgutil.walk_packages(kdnb.__path__, "kdnb."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from kdnb.course import exercises
print(kdnb.__file__, exercises.ALL, exercises.BY_KEY)
print([importlib.util.find_spec(f"kdnb.course.{n}") for n in ("bugs", "grading")])
"""
    run = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path / "site")}}
    run |= {"capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], **run)
    init = tmp_path / "site" / "kdnb" / "__init__.py"
    assert done.stdout.splitlines() == [f"{init} () {{}}", "[None, None]"], done.stderr
    for name in ("instructor", "graded"):
        done = subprocess.run([sys.executable, "-m", "kdnb", "edition", name], **run)
        assert done.returncode == 1 and done.stderr.startswith("kdnb: "), done.stderr
        assert len(done.stderr.splitlines()) == 1


# The command, and the real nbgrader


def test_without_nbgrader_the_command_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(edition, "find_spec", lambda name: None)
    assert main(["edition", "graded", "--output", str(tmp_path / "new")]) == 1
    assert f"pip install '{TOOL}'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def nbgrader(tmp_path_factory):
    """A function that runs a Python with nbgrader beside the packages of this one."""
    folder = tmp_path_factory.mktemp("nbgrader")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True)
    ours = sysconfig.get_path("purelib")
    beside = Path(site.stdout.strip()) / "beside.pth"
    beside.write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")
    pins = {f"{d.name}=={d.version}" for d in distributions(path=[ours]) if d.name != "kdnb"}
    (folder / "pins.txt").write_text("\n".join(sorted(pins)), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--constraint", folder / "pins.txt", TOOL], capture_output=True, text=True
    )
    # It must go with our pins; a reader's machine without a network does without these tests.
    assert "ResolutionImpossible" not in done.stderr, done.stderr
    if done.returncode:
        assert not os.environ.get("CI"), f"CI needs nbgrader: {done.stderr}"
        pytest.skip(f"nbgrader cannot be installed: {done.stderr.splitlines()[-1]}")
    settings = {
        "OMP_NUM_THREADS": "1", "KDNB_RUNS": str(folder / "runs"),
        "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "PYTHONPATH": str(PACKAGE.parent),
        "PATH": os.pathsep.join([str(python.parent), os.environ["PATH"]]),
    }  # fmt: skip

    def run(*arguments, cwd=folder):
        command = [python, "-m", *arguments]
        done = subprocess.run(
            command, cwd=cwd, env=os.environ | settings, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def graded(nbgrader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "graded"
    out = nbgrader("kdnb", "edition", "graded", "--output", str(folder))
    assert out.split() == [str(folder / "student"), str(folder / "source")]
    return folder


@pytest.mark.slow
def test_what_students_get_holds_no_solution(graded, made):
    student = graded / "student"
    texts = {path.name: path.read_text(encoding="utf-8") for path in student.rglob("*.md")}
    for path in student.rglob("*.ipynb"):
        raw = path.read_text(encoding="utf-8")
        assert "BEGIN" not in raw and "kdnb.course.grading" not in raw and '"outputs": []' in raw
        texts[path.name] = "\n".join("".join(c["source"]) for c in json.loads(raw)["cells"])
    assert len(texts) == 8 and leaked(texts) == {}
    whole = "\n".join(texts.values())
    assert not [h for e in ALL for h in (*e.hints, *e.says.values(), e.praise) if h in whole]
    for exercise in FUNCTIONS:
        ((cell,),) = [
            [c for c in nbformat.read(path, 4).cells if c.id == f"answer-{exercise.key}"]
            for path in student.rglob("*.ipynb") if f"answer-{exercise.key}\"" in path.read_text()
        ]  # fmt: skip
        answer = made_by(cell.source, exercise.key)
        assert exercise.check(answer, own=True).status == "not attempted"
    (wheel,) = student.glob("*.whl")
    assert wheel.read_bytes() == student_package()[1]
    left = {path.relative_to(student).parts[0] for path in student.rglob("*") if path.is_file()}
    assert left == {"README.md", wheel.name, *(name for name, node in made.items() if node)}


# What a student changes in the correct answers: (exercise, from, to, what the checker says).
WRONG = [
    ("kd_loss", ".detach()", "", "teacher's gradient not stopped"),
    ("why_t2", "student - teacher", "teacher - student", "the wrong sign"),
    ("real_gain", "(n - 1, 0.975)", "(n - 1, 0.95)", "one-sided quantile"),
    ("second_opinion", "topk(2).values[1]", "topk(3).values[2]", "the third class"),
]
CHAPTERS = ("00_what_is_distillation", "02_conventional_distillation")


def submit(graded, student, chapters, answers):
    for chapter in chapters:
        node = nbformat.read(graded / "student" / chapter / f"{chapter}.ipynb", 4)
        for cell in node.cells:
            cell.source = answers.get(cell.id.removeprefix("answer-"), cell.source)
        path = graded / "submitted" / student / chapter / f"{chapter}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(node, path)


@pytest.mark.slow
def test_nbgrader_marks_right_unsolved_and_wrong_and_names_the_misconception(graded, nbgrader):
    first, second = CHAPTERS
    right = {exercise.key: exercise.solved for exercise in ALL}
    wrong = dict(right)
    for key, before, after, _ in WRONG:
        assert before in right[key]
        wrong[key] = right[key].replace(before, after)
    cheat = "from kdnb.losses import distillation_loss\n\n\ndef my_kd_loss(*given):\n    "
    taken = {"kd_loss": f"{cheat}return distillation_loss(*given).total"}
    submit(graded, "ada", CHAPTERS, right)
    submit(graded, "ben", [second], {})
    submit(graded, "eve", CHAPTERS, wrong)
    submit(graded, "kim", [second], taken)
    for chapter in CHAPTERS:
        nbgrader("nbgrader", "autograde", chapter, cwd=graded)
        nbgrader("nbgrader", "generate_feedback", chapter, cwd=graded)
    nbgrader("nbgrader", "export", cwd=graded)
    with (graded / "grades.csv").open(encoding="utf-8", newline="") as file:
        marks = {
            (row["student_id"], row["assignment"]): (float(row["score"]), float(row["max_score"]))
            for row in csv.DictReader(file)
        }
    assert [marks["ada", chapter] for chapter in CHAPTERS] == [(9, 9), (24, 24)]
    assert marks["ben", second] == (0, 24)
    # The visible test of kd_loss passes without `detach`, and choose_temperature is right.
    assert marks["eve", second] == (2 + 3, 24) and marks["eve", first] == (6, 9)
    assert marks["kim", second] == (2, 24)

    def feedback(student, chapter):
        path = graded / "feedback" / student / chapter / f"{chapter}.html"
        return html.unescape(path.read_text(encoding="utf-8"))

    told = feedback("eve", first) + feedback("eve", second)
    for key, _, _, says in WRONG:
        exercise = BY_KEY[key]
        assert f"✗ Not yet: {says}. " in told and exercise.says[says] in told
        assert f"Read again: {exercise.read.get(says, exercise.header.where)}." in told
    assert str(exercises.kd_loss.check(made_by(wrong["kd_loss"], "kd_loss"))) in told
    assert "✓ Correct. " in feedback("ada", second) and "Not yet" not in feedback("ada", second)
    assert "○ Not attempted. " in feedback("ben", second)
    assert f"Not yet: {OWN}. Your function calls kdnb's `distillation_loss`" in feedback(
        "kim", second
    )
