"""The command line: python -m kdnb report | sweep | doctor"""

import argparse
import sys
import time
from pathlib import Path

from kdnb import doctor
from kdnb.course import words
from kdnb.course.execution import NotebookError
from kdnb.course.pipeline import REPORTS, make_report, make_reports
from kdnb.course.sweeping import SweepLine
from kdnb.experiment import Experiment
from kdnb.methods import ALONE
from kdnb.sweep import sweep
from kdnb.tasks import TASKS, task
from kdnb.training import TrainingDivergedError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 130 stopped by Ctrl-C)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    # ValueError covers unusable data and parameters, OSError an unwritable run store.
    except (NotebookError, TrainingDivergedError, ValueError, OSError) as error:
        print(f"kdnb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nkdnb: stopped; finished runs are kept and will be used again", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdnb", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="run the notebooks and write one HTML file")
    report.add_argument(
        "--task", nargs="+", default=["digits"],
        help=f"one or more, which are then run side by side, of: {', '.join(TASKS)}",
    )  # fmt: skip
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

    grid = commands.add_parser(
        "sweep", help="distil at every temperature, weight and seed; validation accuracies"
    )
    grid.add_argument("--task", default="digits", help=f"one of: {', '.join(TASKS)}")
    grid.add_argument("--temperature", nargs="+", type=float, required=True, metavar="T")
    grid.add_argument("--soft-weight", nargs="+", type=float, required=True, metavar="W")
    grid.add_argument("--seed", nargs="+", type=int, required=True, metavar="N")
    where = grid.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="train on this Dask cluster")
    where.add_argument(
        "--workers", type=int, metavar="N",
        help="train in so many processes of this machine (default: as many as suit it)",
    )  # fmt: skip
    grid.set_defaults(run=_sweep)

    examine = commands.add_parser("doctor", help="what this machine has and what is missing")
    examine.set_defaults(run=_doctor)
    return parser


def _report(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    how = {
        "settings": options.settings,
        "only": options.only,
        "output": options.output.resolve(),
        "cell_timeout": options.cell_timeout,
    }
    several = len(options.task) > 1
    pages = make_reports(options.task, **how) if several else [make_report(*options.task, **how)]
    for page in pages:
        seconds = time.perf_counter() - start
        print(f"{page} ({page.stat().st_size / 1e6:.1f} MB) in {seconds:.0f} s", flush=True)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    lab = Experiment(task(options.task), watch=SweepLine())
    grid = (options.temperature, options.soft_weight, options.seed)
    result = sweep(lab, *grid, scheduler=options.scheduler, workers=options.workers)
    width = max(map(len, result.labels))
    print(f"\nvalidation accuracy on {result.images:,} images, {len(result.seeds)} seeds")
    for label in result.labels:
        mean = result.mean(label)
        line = f"{label:{width}}  {words.percent(mean.mean)} ({words.percent_range(mean)})"
        if label != ALONE.label:
            line += f"  {words.points(result.gain(label, ALONE.label))}"
        print(line)
    print(f"{len(result.labels) * len(result.seeds)} students, {time.perf_counter() - start:.0f} s")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = doctor.examine()
    print(doctor.report(findings))
    return 0 if all(f.ok for f in findings if f.name not in doctor.OPTIONAL) else 1


if __name__ == "__main__":
    sys.exit(main())
