"""What kdnb/course/INSTRUCTOR.md says of notebooks, exercises, commands and numbers holds."""

import re
import shlex
from pathlib import Path

import pytest
from kept import (
    ALONE,
    CLASSES,
    CONTROLS,
    KD,
    PLAIN,
    SUBCLASSES,
    VIEWS,
    final_row,
    in_points,
    kept,
    three_decimals,
    written,
)
from scipy import stats

from kdnb import __main__ as command_line
from kdnb.course import bugs
from kdnb.course.exercises import ALL
from kdnb.course.report.execution import find_notebooks
from kdnb.course.report.parameters import parse_parameters
from kdnb.tasks import task

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "kdnb" / "course" / "INSTRUCTOR.md"
TEXT = PAGE.read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: path for path in find_notebooks()}
NAMED = re.compile(r"\*([^*]+)\*")


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def table(first_column, then=""):
    """The rows below the head that starts with these columns."""
    head = f"| {first_column} | {then}"
    (start,) = [n for n, line in enumerate(TEXT.splitlines()) if line.startswith(head)]
    rows = []
    for line in TEXT.splitlines()[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def commands():
    """The lines of all blocks of code, those that go on in the next joined, as words."""
    lines = re.findall(r"^ {4}.*", TEXT.replace("\\\n", ""), flags=re.MULTILINE)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_every_exercise_stands_there_as_it_is():
    rows = table("notebook", "exercise |")
    assert len(rows) == len(ALL)
    for exercise, row in zip(ALL, rows, strict=True):
        number, title, difficulty, minutes, expected, question = row
        assert (number, title) == (exercise.header.where.notebook[:2], exercise.header.title)
        assert (int(difficulty), int(minutes)) == (
            exercise.header.difficulty,
            exercise.header.minutes,
        )
        names = NAMED.findall(expected)
        assert 2 <= len(names) <= 3 and question.endswith("?")
        assert set(names) <= set(exercise.says), title


def test_every_bug_stands_there_in_its_order():
    rows = table("bug", "what is wrong |")
    assert [row[:2] for row in rows] == [[str(n), b.name] for n, b in enumerate(bugs.ALL, 1)]


def test_measured_times_and_exercises_of_each_notebook():
    seconds = {
        name: kept(name)["cell_seconds"] for name in ("mnist-small", "mnist-small-08", "polyps")
    }
    for link, digits, longest, polyps, exercises in table("notebook", "mnist-small |"):
        stem = NOTEBOOKS[link[1:3]].stem
        own = seconds["mnist-small-08" if stem.startswith("08") else "mnist-small"]
        here = {k.split("/")[1]: s for k, s in own.items() if k.startswith(stem)}
        assert digits == f"{sum(here.values()):.0f} s"
        cell = max(here, key=here.get)
        assert longest == f"`{cell}` {here[cell]:.0f} s"
        there = [s for k, s in seconds["polyps"].items() if k.startswith(stem)]
        assert polyps == (f"{sum(there):.0f} s" if there else "–")
        minutes = [e.header.minutes for e in ALL if e.header.where.notebook == stem]
        assert exercises == (str(sum(minutes)) if minutes else "–")
    for name in ("mnist-small", "polyps"):
        assert f"{kept(name)['wall_seconds']:.0f} s for {name}" in TEXT
    stored = kept("bench")["hour"]["stored_05_seconds"]
    trained = sum(s for k, s in kept("mnist")["cell_seconds"].items() if k.startswith("05_"))
    said = f"notebook 05 took {stored} s, and in the run from an empty store {trained / 60:.0f} min"
    assert said in " ".join(TEXT.split())


def test_minutes_add_up():
    lab = table("minutes", "block |")
    assert f"{sum(int(row[0]) for row in lab)} minutes. In two hours" in TEXT
    assert f"{sum(int(r[0]) for r in lab if r[1][:2] not in ('01', '08'))} minutes remain" in TEXT
    minutes = {exercise.header.title: exercise.header.minutes for exercise in ALL}
    for _, block, exercises in lab:
        if exercises != "–" and "its three exercises" not in block:
            named = [minutes[n] for n in NAMED.findall(block) if n in minutes]
            assert int(exercises) == sum(named), block
    count = {4: "four", 5: "five", 9: "nine"}
    for *_, notebooks, exercises in table("week", "read before |"):
        mine = [e for e in ALL if e.header.where.notebook[:2] in notebooks.split(", ")]
        assert exercises == f"{count[len(mine)]}, {sum(e.header.minutes for e in mine)} min"
    (shorter,) = re.findall(r"\*\*(45) minutes\.\*\*", TEXT)
    assert sum(int(row[0]) for row in tables_of_sections()[0]) == int(shorter)
    assert sum(int(row[0]) for rows in tables_of_sections() for row in rows) == 90


def tables_of_sections():
    """The lecture: its 45 minutes, and what makes 90 of them."""
    lines = [cells(line) for line in TEXT.splitlines() if re.match(r"\| \d+ \| \d\d, ", line)]
    places = [n for n, row in enumerate(lines) if row[1].startswith("06, *What did not")]
    return lines[: places[0] + 1], lines[places[0] + 1 :]


def test_sections_that_are_named_exist():
    rows = [row for rows in tables_of_sections() for row in rows]
    assert len(rows) > 10
    for _, shown, *_ in rows:
        source = NOTEBOOKS[shown[:2]].read_text(encoding="utf-8")
        headings = re.findall(r'"## (.*?)\\n"', source)
        for name in NAMED.findall(shown):
            assert name in headings, (shown, name)


def test_commands_are_those_of_the_command_line():
    makefile = (ROOT / "Makefile").read_text()
    parsed = []
    for words in commands():
        if "kdnb" in words:
            assert words[words.index("kdnb") - 1] == "-m", words
            try:
                parsed.append(command_line._parser().parse_args(words[words.index("kdnb") + 1 :]))
            except SystemExit:
                pytest.fail(f"the command line refuses {' '.join(words)}")
        elif words[0] == "make":
            assert f"\n{words[1]}:" in makefile
        else:
            assert {".venv/bin/jupyter", ".venv/bin/pip", "mkdir", "nbgrader"} & set(words), words
    used = {options.run.__name__ for options in parsed}
    assert used >= {"_report", "_edition", "_sweep", "_verify"}
    for options in parsed:
        names = getattr(options, "task", [])
        for name in [names] if isinstance(names, str) else names:
            assert name == "my_module:my_task" or task(name).name == name
        if options.run.__name__ == "_report":
            parse_parameters(find_notebooks(options.only), options.settings)


def test_every_notebook_is_linked_and_the_answers_are_not_in_the_students_folder():
    links = set(re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT))
    assert {f"../../notebooks/{path.name}" for path in NOTEBOOKS.values()} <= links
    for page in NOTEBOOKS["08"].parent.glob("*.md"):
        assert not any(bug.name in page.read_text(encoding="utf-8") for bug in bugs.ALL)


def test_what_came_out_is_what_was_kept():
    results_page = (ROOT / "report" / "README.md").read_text(encoding="utf-8")
    readme = " ".join(results_page.split())
    rows = table("notebook", "guess |")
    on_page, with_others = ([row[n] for row in rows] for n in (2, 3))
    results = kept("mnist-small")["results"]
    mean = {
        r["dataset"]: {label: sum(each) / len(each) for label, each in r["accuracy"].items()}
        for r in reversed(results)
        if "accuracy" in r
    }
    ten, two = mean["mnist-small"], mean["mnist-small-2x5"]
    gap = ten["teacher"] - ten[ALONE]
    assert [on_page[n] for n in (1, 2, 3, 5, 9)] == [
        f"{100 * ten['teacher']:.2f} %",
        f"{100 * (ten[KD] - ten[ALONE]):+.2f}",
        f"{100 * (ten['student + KD at T = 1'] - ten[ALONE]):+.2f}",
        f"{100 * (two[SUBCLASSES] - two[CLASSES]):+.2f}",
        f"{100 * (ten[KD] - ten[ALONE]) / gap:.0f} %",
    ]
    assert [with_others[n] for n in (1, 2, 3, 5)] == [
        written(final_row("mnist-small", PLAIN, "teacher")),
        in_points(final_row("mnist-small", CONTROLS, KD, ALONE)),
        in_points(final_row("mnist-small", CONTROLS, f"{KD} at T = 1", ALONE)),
        in_points(final_row("mnist-small-2x5", "distillation", SUBCLASSES, CLASSES)),
    ]
    for label in (VIEWS, "Müller's auxiliary loss", "no auxiliary loss", "k-means on the pixels"):
        share = final_row("mnist-small-2x5", "digits recovered", label)["mean"]
        assert f"{100 * share:.1f} %" in TEXT, label
    (maps,) = (r["measured"]["gradient"] for r in results if r.get("kind") == "similarity")
    for label, measured in maps.items():
        assert three_decimals(measured["rank correlation"]).split()[0] in TEXT, label
    (ladder,) = (result["size_sweep"] for result in results if "size_sweep" in result)
    size = {rung["name"]: rung for rung in ladder}
    big = max(ladder, key=lambda rung: rung["cost"]["parameters"])
    (cost,) = (result["cost"] for result in results if "cost" in result)
    for model in (cost["teacher"], big["cost"]):
        assert f"{model['parameters']:,}" in TEXT and f"{model['flops'] / 1e6:.2f}" in TEXT
    times, name = re.match(r"([\d.]+) times, the (\S+) student", on_page[8]).groups()
    assert times == f"{big['cost']['parameters'] / size[name]['cost']['parameters']:.1f}"
    pairs = zip(size[name]["accuracy"][KD], big["accuracy"][ALONE], strict=True)
    assert all(distilled > alone for distilled, alone in pairs)
    assert f"The distilled {name} student, {times} times smaller, beats {big['name']}" in readme

    # The others are in report/README.md, which its own tests hold to the kept runs.
    ranges = re.findall(r"[+-][\d.]+ \([^)]*\)", " ".join(TEXT.split()))
    assert len(ranges) == 6
    for number in ranges:
        assert number in readme or number.replace(" (", " points (") in readme, number
    assert "4.6 times" in readme and "4.6 times" in TEXT


def test_of_five_groups_the_pooled_mean_is_left_out_by_4_per_cent_of_the_intervals():
    """A group's mean less the pooled one has 4/5 of its variance, since the pool contains it."""
    bound = stats.t.ppf(0.975, df=2) / (4 / 5) ** 0.5
    missed = 2 * stats.t.sf(bound, df=2)
    assert f"About {100 * missed:.0f} % with five groups" in TEXT
    assert f"= {bound:.2f}, which has the probability {missed:.3f}" in " ".join(TEXT.split())
