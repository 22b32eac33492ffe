"""Editions and reports: no file that is not as kdnb wrote it is overwritten without --force."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdnb import __main__ as command_line
from kdnb.course.report import execution, pipeline
from kdnb.course.report.editions import EDITIONS, write_edition
from kdnb.course.report.execution import find_notebooks
from kdnb.course.report.written import NOTE, WouldBeLostError, Written

NOTEBOOKS = find_notebooks()


def everything(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def edition(*arguments):
    return command_line.main(["edition", *map(str, arguments)])


@pytest.fixture
def students(tmp_path):
    """A folder with the students' edition."""
    assert edition("student", "--output", tmp_path / "students") == 0
    return tmp_path / "students"


# Editions


def test_what_kdnb_wrote_is_written_again(students):
    before = everything(students)
    assert edition("student", "--output", students) == 0 and everything(students) == before
    assert edition("instructor", "--output", students) == 0
    assert set(everything(students)) == set(before) and everything(students) != before
    assert edition("report", "--output", students) == 0


def answered(path):
    notebook = nbformat.read(path, 4)
    answer = next(c for c in notebook.cells if c.id.startswith("answer-"))
    answer.source += "\n# mine"
    nbformat.write(notebook, path)


def run_once(path):
    notebook = nbformat.read(path, 4)
    cell = next(c for c in notebook.cells if c.cell_type == "code")
    cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="42")], 1
    nbformat.write(notebook, path)


CHANGES = {
    "an answer": answered,
    "an output": run_once,
    "one byte": lambda path: path.write_bytes(path.read_bytes() + b" "),
    "nothing left": lambda path: path.write_bytes(b""),
    "no notebook": lambda path: path.write_bytes(b"\xff my notes"),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "mine").write_text("")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["student", "instructor"])
def test_what_a_reader_changed_stays_and_nothing_else_is_written(students, capsys, change, name):
    (students / NOTEBOOKS[1].name).unlink()  # would be written before the others are looked at
    for number in (4, 6):
        CHANGES[change](students / NOTEBOOKS[number].name)
    before = everything(students)
    capsys.readouterr()
    assert edition(name, "--output", students) == 1
    assert everything(students) == before
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{NOTEBOOKS[4].name}, {NOTEBOOKS[6].name} in {students} would be lost" in said
    assert said.count(".ipynb") == 2 and "--output" in said and "--force" in said


def test_with_force_all_is_written(students):
    whole = everything(students)
    for number, change in enumerate(list(CHANGES.values())[:5]):
        change(students / NOTEBOOKS[number].name)
    assert edition("student", "--output", students, "--force") == 0
    assert everything(students) == whole
    assert edition("student", "--output", students) == 0, "and is kdnb's again"


@pytest.mark.parametrize(
    "note", [b"mine", b"[]", b"{}", b"\xff", b'{"SHA-256 of what kdnb wrote": 3}']
)
def test_files_without_a_note_and_a_note_that_is_none(students, capsys, note):
    (students / NOTE).unlink()
    assert edition("student", "--output", students) == 0, "the same as what is there"
    (students / NOTE).write_bytes(note)
    assert edition("student", "--output", students) == 1
    assert NOTE in capsys.readouterr().err and (students / NOTE).read_bytes() == note
    (students / NOTE).unlink()
    assert edition("instructor", "--output", students) == 1, "who wrote the students' is not known"


def test_the_same_answers_as_kdnbs_are_not_lost(students, tmp_path):
    write_edition("instructor", NOTEBOOKS, tmp_path / "other")
    shutil.copy(tmp_path / "other" / NOTEBOOKS[2].name, students)
    assert edition("instructor", "--output", students) == 0


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("name", EDITIONS)
def test_the_sources_are_never_overwritten(tmp_path, capsys, force, name, monkeypatch):
    sources = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS[0].parent, sources)
    monkeypatch.setattr(command_line, "find_notebooks", lambda: find_notebooks(folder=sources))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(sources)
    before = everything(sources)
    for folder in ("notebooks", "notebooks/", "link", "./x/../notebooks", sources):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert edition(name, "--output", folder, *force) == 1, folder
        assert "holds the original notebooks: name another folder" in capsys.readouterr().err
    assert everything(sources) == before
    assert edition(name, "--output", "notebooks/new", *force) == 0


@pytest.mark.parametrize("hard", [True, False])
def test_through_a_link_nothing_is_overwritten(students, tmp_path, hard):
    other = tmp_path / "precious.ipynb"
    other.write_text("theirs")
    target = students / NOTEBOOKS[3].name
    target.unlink()
    target.hardlink_to(other) if hard else target.symlink_to(other)
    assert edition("student", "--output", students) == 1
    assert edition("student", "--output", students, "--force") == 0
    assert other.read_text() == "theirs" and not target.is_symlink()


def test_a_link_stays_whatever_it_leads_to(students, tmp_path):
    target = students / NOTEBOOKS[3].name
    other = target.rename(tmp_path / "elsewhere.ipynb")
    target.symlink_to(other)
    assert edition("student", "--output", students) == 1 and target.is_symlink()


FILES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([b"", b"1", b"2"]), min_size=1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), FILES), max_size=8))
def test_whatever_is_written_in_turns_no_reader_loses_a_file(tmp_path_factory, turns):
    """kdnb and a reader write into one folder; a model of it knows whose each file is."""
    folder = tmp_path_factory.mktemp("turns")
    there, ours = {}, {}
    for reader, files in turns:
        if reader:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            there |= files
        elif any(there.get(n, ours.get(n)) not in (ours.get(n), files[n]) for n in files):
            with pytest.raises(WouldBeLostError):
                Written(folder).require_unchanged(files, contents=files)
        else:
            Written(folder).require_unchanged(files, contents=files)
            Written(folder).write(files)
            there, ours = there | files, ours | files
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != NOTE} == there


# Reports


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs `python -m kdnb report --only 00`, whose notebook is not run but made up."""

    def executed(notebook, output, parameters, *rest, **options):
        output.parent.mkdir(parents=True, exist_ok=True)
        ran.append(notebook.name)
        node = nbformat.read(notebook, 4)
        with execution._written_beside(output) as part:
            nbformat.write(node, part)
            if fails:
                raise execution.NotebookError("stopped")
        return node

    ran, fails = [], []
    monkeypatch.setattr(pipeline, "execute", executed)

    def run(*arguments):
        ran.clear()
        done = command_line.main(["report", "--only", "00", "--output", str(tmp_path), *arguments])
        return done, ran

    run.fails = fails
    return run


@pytest.mark.slow
def test_a_report_is_made_again_where_one_was_made(report, tmp_path):
    for _ in range(2):
        assert report() == (0, [NOTEBOOKS[0].name])
    assert {p.name for p in tmp_path.iterdir()} >= {
        "mnist-small-00.html",
        "mnist-small-00.json",
        "mnist-small",
    }
    report.fails.append(True)
    assert report()[0] == 1
    report.fails.clear()
    assert report()[0] == 0, "what a stopped one left is kdnb's too"


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "name", ["mnist-small-00.html", "mnist-small-00.json", f"mnist-small/{NOTEBOOKS[0].name}"]
)
def test_a_report_overwrites_no_file_of_the_readers(report, tmp_path, capsys, name, there):
    if there:
        assert report()[0] == 0
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    capsys.readouterr()
    assert report() == (1, []), "before any notebook is run"
    assert everything(tmp_path) == before
    assert f"nothing was written: {name} in {tmp_path} would be lost" in capsys.readouterr().err
    assert report("--force") == (0, [NOTEBOOKS[0].name])
    assert report()[0] == 0


def test_strangers_results_are_not_read_as_times(report, tmp_path):
    (tmp_path / "mnist-small.json").write_text("[1, 2")
    assert report()[0] == 0 and (tmp_path / "mnist-small.json").read_text() == "[1, 2"


def test_a_forced_report_that_came_to_nothing_leaves_the_readers_file_the_readers(
    report, tmp_path, monkeypatch
):
    (tmp_path / "mnist-small").mkdir()
    mine = tmp_path / "mnist-small" / NOTEBOOKS[0].name
    mine.write_text("mine")

    def dead(*arguments, **options):
        raise execution.NotebookError("there is no kernel")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "execute", dead)
        assert report("--force")[0] == 1
    assert report()[0] == 1 and mine.read_text() == "mine"


# Several reports


SIDE_BY_SIDE = ("mnist-small", "mnist-small-2x5")


@pytest.fixture
def reports(tmp_path, monkeypatch, report):
    """Makes chapters 01 and 05 of two tasks, in threads; what cannot run there is made up."""
    monkeypatch.setattr(pipeline, "ProcessPoolExecutor", lambda n, _: ThreadPoolExecutor(n))
    how = {"only": ["01", "05"], "output": tmp_path}
    return lambda: list(pipeline.make_reports(SIDE_BY_SIDE, **how))


def test_what_stopped_reports_left_is_kdnbs_too(reports, monkeypatch, tmp_path):
    def stopped(running, **options):
        wait(running)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "wait", stopped)
        with pytest.raises(KeyboardInterrupt) as stop:
            reports()
    assert list(tmp_path.glob("mnist-small/01_*.ipynb"))
    assert {path.name for path in reports()} == {f"{task}-01-05.html" for task in SIDE_BY_SIDE}
    assert stop.tb  # whose frames hold all that was open: nothing was put right by being forgotten


def test_a_report_that_fails_leaves_the_others_alone(reports, monkeypatch, tmp_path):
    made_up = pipeline.execute

    def execute(notebook, output, parameters, *rest, **options):
        if parameters["task"] == SIDE_BY_SIDE[0]:
            raise execution.NotebookError("stopped")
        return made_up(notebook, output, parameters, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "execute", execute)
        with pytest.raises(execution.NotebookError):
            reports()
    assert [path.name for path in tmp_path.glob("*.html")] == ["mnist-small-2x5-01-05.html"]
    assert len(reports()) == 2


def test_the_last_chapter_waits_for_the_others(reports, monkeypatch):
    """It needs what they have trained; chapters of another report run meanwhile."""
    running, made_up = [], pipeline.execute

    def execute(notebook, output, parameters, *rest, **options):
        here = (parameters["task"], notebook.name[:2])
        if here[1] == "05":
            assert (here[0], "01") not in running
        running.append(here)
        try:
            return made_up(notebook, output, parameters, *rest, **options)
        finally:
            running.remove(here)

    monkeypatch.setattr(pipeline, "execute", execute)
    assert len(reports()) == 2


def test_make_clean_takes_nothing_of_the_readers(tmp_path):
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    for name in ("data/runs/guesses-mnist-small.json", "data/mhist/images.zip", "build/mine",
                 "editions/student/00_a.ipynb", "report/mine.html", "report/mnist-small-my/notes",
                 ".venv/bin/mine"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("mine")
    before = everything(tmp_path)
    (tmp_path / ".ruff_cache").mkdir()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert everything(tmp_path) == before and not (tmp_path / ".ruff_cache").exists()
    (tmp_path / ".venv" / "installed").touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert not (tmp_path / ".venv").exists()
