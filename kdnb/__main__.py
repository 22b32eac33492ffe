"""The command line: python -m kdnb report | slides | edition | sweep | store | doctor"""

import os
import sys

if __name__ == "__main__":
    # No command opens a window, and the backend in a reader's MPLBACKEND may be missing.
    os.environ["MPLBACKEND"] = "agg"
    if not sys.flags.safe_path:
        # A random.py in the working directory must not replace Python's own.
        sys.path.append(sys.path.pop(0))

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from kdnb import doctor, maintenance
from kdnb.course.report.editions import EDITIONS, FOLDER, WHEEL, write_edition
from kdnb.course.report.execution import NotebookError, find_notebooks
from kdnb.course.report.pipeline import REPORTS, make_report, make_reports
from kdnb.course.report.slides import make_slides
from kdnb.course.report.sweeping import SweepLine, sweep_lines
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE
from kdnb.files import folder_of
from kdnb.store.store import Store
from kdnb.tasks import TASKS, task
from kdnb.training.loop import TrainingDivergedError

OVERWRITE = "overwrite files that kdnb did not write, such as notebooks with your answers"


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
        print("\nkdnb: stopped; finished runs are stored and will be reused", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kdnb", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tasks = f"{', '.join(TASKS)}, or your own as my_module:my_task"

    about = "run the notebooks and write one HTML file"
    add = _command(commands, "report", _report, about).add_argument
    several = f"one or more tasks, run in parallel: {tasks}"
    add("--task", nargs="+", default=["mnist-small"], help=several)
    setting = "set a notebook parameter, such as temperature=8 (repeatable)"
    add("--set", action="append", default=[], metavar="NAME=VALUE", dest="settings", help=setting)
    only = "run only this notebook (repeatable)"
    add("--only", action="append", default=[], metavar="NN", help=only)
    add("--cell-timeout", type=int, metavar="SECONDS", help="time limit for each cell")
    add("--output", type=Path, default=REPORTS, help="folder (default: report/)")
    exercises = "exercises unsolved, solved or omitted (default: report, which omits them)"
    add("--edition", choices=EDITIONS, default="report", help=exercises)
    add("--force", action="store_true", help=OVERWRITE)

    about = "write slides of each chapter and of one lecture, from the report's notebooks"
    add = _command(commands, "slides", _slides, about).add_argument
    add("--task", default="mnist-small", help=f"one of: {tasks}")
    add("--only", action="append", default=[], metavar="NN", help=only)
    folder = "the report's folder (default: report/); slides go into its folder slides"
    add("--output", type=Path, default=REPORTS, help=folder)
    add("--force", action="store_true", help=OVERWRITE)

    about = "write the notebooks with stubs, with solutions, without exercises, or for nbgrader"
    add = _command(commands, "edition", _edition, about).add_argument
    add("edition", choices=(*EDITIONS, "graded"))
    folder = "(default: editions/ with the edition's name)"
    add("--output", type=Path, metavar="FOLDER", help=folder)
    source = (
        "what Colab installs: git+https://... of your copy (default: a wheel beside the notebook)"
    )
    add("--source", default=WHEEL, metavar="PACKAGE", help=source)
    add("--force", action="store_true", help=OVERWRITE)

    about = "distil at every temperature, weight and seed, and print validation accuracies"
    sweep = _command(commands, "sweep", _sweep, about)
    add = sweep.add_argument
    add("--task", default="mnist-small", help=f"a task: {tasks}")
    add("--temperature", nargs="+", type=float, required=True, metavar="T")
    add("--soft-weight", nargs="+", type=float, required=True, metavar="W")
    add("--seed", nargs="+", type=int, required=True, metavar="N")
    add = sweep.add_mutually_exclusive_group().add_argument
    add("--scheduler", metavar="ADDRESS", help="train on this Dask cluster")
    processes = "number of processes on this machine (default: chosen for its cores)"
    add("--workers", type=int, metavar="N", help=processes)

    store = commands.add_parser("store", help="list, verify or prune stored runs")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    _command(actions, "list", _list, "list all stored files")
    _command(actions, "verify", _verify, "read all stored files and name damaged ones")
    prune = _command(actions, "prune", _prune, "remove files that kdnb will not load again")
    prune.add_argument("--dry-run", action="store_true", help="only list them with reasons")

    _command(commands, "doctor", _doctor, "check this machine and name what is missing")
    return parser


def _command(among, name: str, run: Callable, about: str) -> argparse.ArgumentParser:
    command = among.add_parser(name, help=about)
    command.set_defaults(run=run)
    return command


def _report(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    names = ("settings", "only", "cell_timeout", "edition", "force")
    how = {name: getattr(options, name) for name in names} | {"output": folder_of(options.output)}
    several = len(options.task) > 1
    pages = make_reports(options.task, **how) if several else [make_report(*options.task, **how)]
    for page in pages:
        seconds = time.perf_counter() - start
        print(f"{page} ({page.stat().st_size / 1e6:.1f} MB) in {seconds:.0f} s", flush=True)
    return 0


def _slides(options: argparse.Namespace) -> int:
    how = {"only": options.only, "output": folder_of(options.output), "force": options.force}
    for path in make_slides(options.task, **how):
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def _edition(options: argparse.Namespace) -> int:
    notebooks = find_notebooks()
    folder = folder_of(options.output or FOLDER / options.edition)
    if options.edition == "graded":
        # The students' package comes without it.
        from kdnb.course.grading import write_graded

        paths = write_graded(notebooks, folder, options.force)
    else:
        paths = write_edition(options.edition, notebooks, folder, options.force, options.source)
    for path in paths:
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
    store, sizes = Store(), defaultdict(list)
    for item in maintenance.items(store):
        days = item.age / 86400
        print(f"{item.path.name:52} {item.bytes / 1e6:9.2f} MB {days:7.1f} days  {item.about}")
        sizes[item.kind].append(item.bytes)
    for kind, each in sorted(sizes.items()):
        print(f"{kind}: {len(each):,} ({sum(each) / 1e6:,.1f} MB)")
    total = [size for each in sizes.values() for size in each]
    print(f"{store.root}: {len(total):,} in all ({sum(total) / 1e6:,.1f} MB)")
    return 0


def _verify(options: argparse.Namespace) -> int:
    store, damaged = Store(), 0
    for item, problem in maintenance.problems(store):
        damaged += 1
        print(f"{item.path.name}: {problem}", flush=True)
    print(f"{store.root}: {damaged or 'no'} damaged of {len(maintenance.items(store)):,}")
    return int(damaged > 0)


def _prune(options: argparse.Namespace) -> int:
    store, removed, freed = Store(), 0, 0
    for item, why in maintenance.superfluous(store):
        if not options.dry_run:
            store.require_writable()
            maintenance.prune(item)
        removed, freed = removed + 1, freed + item.bytes
        print(f"{item.path.name}: {why}", flush=True)
    verb = "would be removed" if options.dry_run else "removed"
    print(f"{store.root}: {removed or 'nothing'} {verb} ({freed / 1e6:,.1f} MB)")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    findings = doctor.examine()
    print(doctor.report(findings))
    return 0 if all(f.ok for f in findings if f.name not in doctor.OPTIONAL) else 1


if __name__ == "__main__":
    sys.exit(main())
