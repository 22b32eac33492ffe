"""The command line: ``python -m kdnb report | doctor``."""

import argparse
import json
import sys
import time
from pathlib import Path

from tqdm import tqdm

from kdnb import doctor
from kdnb.course.execution import CellDone, NotebookError, execute, find_notebooks, parse_parameters
from kdnb.course.report import published_results, render_chapter, render_page
from kdnb.data import DataError
from kdnb.data.dataset import PROJECT
from kdnb.environment import best_device, provenance
from kdnb.store import Store, StoreError
from kdnb.tasks import TASKS, task

REPORTS = PROJECT / "report"
FACTS = ("kdnb", "python", "torch", "torchvision", "numpy", "device", "system")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 2 wrong usage, 130 Ctrl-C)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (NotebookError, DataError, StoreError, ValueError) as error:
        print(f"kdnb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nkdnb: stopped; finished runs are kept and will be used again", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdnb", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="run the notebooks and write one HTML file")
    report.add_argument("--task", default="digits", help=f"one of: {', '.join(TASKS)}")
    report.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", dest="settings",
        help="a notebook parameter, such as temperature=8 (repeatable)",
    )  # fmt: skip
    report.add_argument(
        "--only", action="append", default=[], metavar="NN", help="only this notebook (repeatable)"
    )
    report.add_argument(
        "--cell-timeout", type=int, metavar="SECONDS", help="give up on a cell after this long"
    )
    report.add_argument("--output", type=Path, default=REPORTS, help="folder (default: report/)")
    report.set_defaults(run=_report)

    examine = commands.add_parser("doctor", help="what this machine has and what is missing")
    examine.set_defaults(run=_doctor)
    return parser


def _report(options: argparse.Namespace) -> int:
    chosen = task(options.task)
    notebooks = find_notebooks(options.only)
    parameters = parse_parameters(notebooks, [f"task={chosen.name}", *options.settings])
    data = chosen.load()  # before any notebook starts: missing data should not take minutes to say
    Store().require_writable()

    start = time.perf_counter()
    name = "-".join([chosen.name, *options.only])
    expected = _expected_seconds(options.output, chosen.name)
    chapters, results, seconds = [], [], {}
    for number, notebook in enumerate(notebooks, start=1):
        executed_path = options.output / chosen.name / notebook.name
        with _Bar(notebook, number, len(notebooks), expected) as bar:
            executed = execute(
                notebook,
                executed_path,
                parameters[notebook],
                on_cell=bar.cell_done,
                cell_timeout=options.cell_timeout,
            )
        chapters.append(render_chapter(executed, notebook.stem))
        results += published_results(executed)
        seconds.update(bar.seconds)
    total = time.perf_counter() - start

    origin = provenance(best_device())
    page = render_page(
        chapters,
        title=f"Knowledge distillation: {chosen.title}",
        about="What distillation is and how it works, what it gains and what it costs. "
        "Every number below was computed by this run or loaded from the run store it names.",
        facts=[
            ("data", data.about),
            ("data fingerprint", data.fingerprint),
            ("set for this run", ", ".join(options.settings) or "nothing: all defaults"),
            ("wall time", f"{total:.0f} s"),
            *((fact, origin[fact]) for fact in FACTS),
        ],
    )
    target = options.output / f"{name}.html"
    target.write_text(page, encoding="utf-8")
    record = {
        "task": chosen.name,
        "settings": options.settings,
        "data_fingerprint": data.fingerprint,
        "provenance": origin,
        "wall_seconds": round(total, 1),
        "cell_seconds": seconds,
        "results": results,
    }
    (options.output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{target} ({target.stat().st_size / 1e6:.1f} MB) in {total:.0f} s")
    return 0


def _expected_seconds(output: Path, task_name: str) -> dict[str, float]:
    """Seconds by cell id: from the last report made here, else from the one in the project."""
    for path in (output / f"{task_name}.json", REPORTS / "reference" / f"{task_name}.json"):
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["cell_seconds"]
    return {}


class _Bar:
    """One notebook's progress on the terminal; its time left counts cells by expected seconds."""

    def __init__(self, notebook: Path, number: int, total: int, expected: dict[str, float]):
        self.expected = expected
        self.seconds: dict[str, float] = {}
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        self._last = time.perf_counter()
        self._bar = tqdm(
            total=sum(map(self._weight, (cell["id"] for cell in cells))),
            desc=f"[{number}/{total}] {notebook.stem}",
            bar_format="{desc} |{bar:20}| {postfix} {elapsed} gone, about {remaining} left",
        )

    def _weight(self, cell_id: str) -> float:
        return self.expected.get(cell_id, 1.0)

    def cell_done(self, cell: CellDone) -> None:
        now = time.perf_counter()
        self.seconds[cell.cell_id] = round(now - self._last, 2)
        self._last = now
        self._bar.set_postfix_str(f"cell {cell.number}/{cell.total}", refresh=False)
        self._bar.update(self._weight(cell.cell_id))

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def _doctor(options: argparse.Namespace) -> int:
    findings = doctor.examine()
    print(doctor.report(findings))
    # MNIST is the one thing that need not be there.
    return 0 if all(f.ok for f in findings if f.name != "mnist") else 1


if __name__ == "__main__":
    sys.exit(main())
