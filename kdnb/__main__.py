"""The command line: python -m kdnb report | edition | sweep | store | doctor"""

import os
import sys

if __name__ == "__main__":
    # No command opens a window, and what a reader's MPLBACKEND names may not be there.
    os.environ["MPLBACKEND"] = "agg"
    if not sys.flags.safe_path:
        # A random.py where the command is started must not be taken for Python's own.
        sys.path.append(sys.path.pop(0))

import argparse
import time
from pathlib import Path

from kdnb import doctor
from kdnb import maintenance as upkeep
from kdnb.course.report.editions import EDITIONS, FOLDER, write_edition
from kdnb.course.report.execution import NotebookError, find_notebooks
from kdnb.course.report.pipeline import REPORTS, make_report, make_reports
from kdnb.course.report.sweeping import SweepLine, sweep_lines
from kdnb.data.dataset import folder_of
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.store.store import Store
from kdnb.tasks import TASKS, task
from kdnb.training.loop import TrainingDivergedError

OVERWRITE = "overwrite files that are not as kdnb wrote them, such as notebooks with your answers"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status (0 done, 1 failed, 130 stopped by Ctrl-C)."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may have no × or é
        stream.reconfigure(errors="backslashreplace")
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
        help=f"one or more, which are then run side by side, of: {', '.join(TASKS)}, or of "
        "your own: my_module:my_task",
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
    report.add_argument(
        "--edition", choices=EDITIONS, default="report",
        help="exercises: unsolved, solved or left out (default: report, which leaves them out)",
    )  # fmt: skip
    report.add_argument("--force", action="store_true", help=OVERWRITE)
    report.set_defaults(run=_report)

    handout = commands.add_parser(
        "edition", help="write the notebooks with stubs, with solutions or without exercises"
    )
    handout.add_argument("edition", choices=EDITIONS)
    handout.add_argument(
        "--output", type=Path, metavar="FOLDER", help="(default: editions/ and the edition's name)"
    )
    handout.add_argument("--force", action="store_true", help=OVERWRITE)
    handout.set_defaults(run=_edition)

    grid = commands.add_parser(
        "sweep", help="distil at every temperature, weight and seed; validation accuracies"
    )
    grid.add_argument(
        "--task", default="digits", help=f"one of: {', '.join(TASKS)}, or my_module:my_task"
    )
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

    keeping = commands.add_parser("store", help="list, verify or prune what finished runs left")
    actions = keeping.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is").set_defaults(run=_list)
    actions.add_parser("verify", help="read it all, name what is damaged").set_defaults(run=_verify)
    pruning = actions.add_parser("prune", help="remove what would not be loaded again")
    pruning.add_argument("--dry-run", action="store_true", help="only say what and why")
    pruning.set_defaults(run=_prune)

    examine = commands.add_parser("doctor", help="what this machine has and what is missing")
    examine.set_defaults(run=_doctor)
    return parser


def _report(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    how = {
        "settings": options.settings,
        "only": options.only,
        "output": folder_of(options.output),
        "cell_timeout": options.cell_timeout,
        "edition": options.edition,
        "force": options.force,
    }
    several = len(options.task) > 1
    pages = make_reports(options.task, **how) if several else [make_report(*options.task, **how)]
    for page in pages:
        seconds = time.perf_counter() - start
        print(f"{page} ({page.stat().st_size / 1e6:.1f} MB) in {seconds:.0f} s", flush=True)
    return 0


def _edition(options: argparse.Namespace) -> int:
    folder = folder_of(options.output or FOLDER / options.edition)
    for path in write_edition(options.edition, find_notebooks(), folder, options.force):
        print(path)
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from kdnb.experiment.sweep import sweep  # brings in Dask, which no other command needs

    start = time.perf_counter()
    lab = Experiment(task(options.task), watch=SweepLine())
    grid = (options.temperature, options.soft_weight, options.seed)
    result = sweep(lab, *grid, scheduler=options.scheduler, workers=options.workers)
    print("", *sweep_lines(result, ALONE.label), sep="\n")
    print(f"{len(result.labels) * len(result.seeds)} students, {time.perf_counter() - start:.0f} s")
    return 0


def _list(options: argparse.Namespace) -> int:
    store = Store()
    found = upkeep.items(store)
    for item in found:
        days = item.age / 86400
        print(f"{item.name:52} {item.bytes / 1e6:9.2f} MB {days:7.1f} days  {item.about}")
    for kind in sorted({item.kind for item in found}):
        sizes = [item.bytes for item in found if item.kind == kind]
        print(f"{kind}: {len(sizes):,} ({sum(sizes) / 1e6:,.1f} MB)")
    total = sum(item.bytes for item in found) / 1e6
    print(f"{store.root}: {len(found):,} in all ({total:,.1f} MB)")
    return 0


def _verify(options: argparse.Namespace) -> int:
    store, damaged = Store(), 0
    for name, problem in upkeep.problems(store):
        damaged += 1
        print(f"{name}: {problem}", flush=True)
    print(f"{store.root}: {damaged or 'no'} damaged of {len(upkeep.items(store)):,}")
    return int(damaged > 0)


def _prune(options: argparse.Namespace) -> int:
    store, removed, freed = Store(), 0, 0
    sizes = {item.name: item.bytes for item in upkeep.items(store)}
    if not options.dry_run and sizes:
        store.require_writable()
    for name, why in upkeep.superfluous(store):
        removed, freed = removed + 1, freed + sizes.get(name, 0)
        print(f"{name}: {why}", flush=True)
        if not options.dry_run:
            upkeep.prune(store, name)
    verb = "would be removed" if options.dry_run else "removed"
    print(f"{store.root}: {removed or 'nothing'} {verb} ({freed / 1e6:,.1f} MB)")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = doctor.examine()
    print(doctor.report(findings))
    return 0 if all(f.ok for f in findings if f.name not in doctor.OPTIONAL) else 1


if __name__ == "__main__":
    sys.exit(main())
