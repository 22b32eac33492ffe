"""From a task to its report: run the notebooks, collect their results, write one page."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch

from kdnb.course.report.editions import edition as edition_of
from kdnb.course.report.execution import environment, execute, find_notebooks
from kdnb.course.report.page import published_results, render_chapter, render_page, seeds_of
from kdnb.course.report.parameters import check_label, parse_parameters
from kdnb.course.report.terminal import ReportProgress
from kdnb.course.report.written import Written
from kdnb.environment import best_device, provenance
from kdnb.files import PROJECT
from kdnb.store.store import Store
from kdnb.tasks import task
from kdnb.tasks.config import APART

REPORTS = PROJECT / "report"
VERSIONS = ("kdnb", "python", "torch", "torchvision", "numpy")


def make_reports(task_names: Sequence[str], **options: object) -> Iterator[Path]:
    """`make_report` for several tasks side by side, each in a process with its share of threads.

    Gives the path of each page as soon as it is written. What one task raises is raised at the end,
    when the others are done. Raises ValueError for a task that is named twice: two processes would
    write the same files.
    """
    plain = [name.replace(".py:", ":") for name in task_names]
    if twice := [name for name in task_names if plain.count(name.replace(".py:", ":")) > 1]:
        raise ValueError(f"the task {twice[0]} is named twice: name each task once")
    share = max(1, torch.get_num_threads() // len(task_names))
    with (
        environment(OMP_NUM_THREADS=str(share)),  # processes and their kernels inherit it
        ProcessPoolExecutor(len(task_names), get_context("spawn")) as pool,
    ):
        running = [pool.submit(make_report, name, label=name, **options) for name in task_names]
        for done in as_completed(running):
            if done.exception() is None:
                yield done.result()
        for done in running:
            done.result()


def make_report(
    task_name: str,
    *,
    settings: Sequence[str] = (),
    only: Sequence[str] = (),
    output: Path = REPORTS,
    cell_timeout: int | None = None,
    edition: str = "report",
    label: str = "",
    force: bool = False,
) -> Path:
    """Run the notebooks on a task and write ``output/<task's name>.html``; returns its path.

    ``settings`` are "name=value" texts for notebook parameters, ``only`` the numbers of the
    notebooks to run, ``edition`` what becomes of their exercises (`kdnb.course.report.editions`),
    ``label`` what lines of progress start with. Beside the page lie ``<task>.json`` with the
    results and the seconds of each cell, and ``<task>/`` with the executed notebooks. What is there
    and not as kdnb wrote it is overwritten with ``force`` alone.

    Raises ValueError, `kdnb.data.DataError` or `kdnb.store.StoreError` before any notebook starts,
    and `kdnb.course.report.execution.NotebookError` if one does not run to its end.
    """
    chosen = task(task_name)
    data = chosen.load() if not chosen.text.notebooks else None
    fitting = chosen.text.notebooks or chosen.chapters(data)
    notebooks = find_notebooks(only or fitting)
    if unfit := [number for number in only if number not in (*fitting, *APART)]:
        raise ValueError(
            f"notebook {unfit[0]} does not fit the task {chosen.name}: "
            f"choose from {', '.join(fitting)}"
        )
    parameters = parse_parameters(notebooks, settings)
    if cell_timeout is not None and cell_timeout < 1:
        raise ValueError(f"a cell needs at least 1 second, got --cell-timeout {cell_timeout}")
    name, written = "-".join([chosen.name, *dict.fromkeys(only)]), Written(output, chosen.name)
    executed_as = {notebook: f"{chosen.name}/{notebook.name}" for notebook in notebooks}
    targets = [f"{name}.html", f"{name}.json", *executed_as.values()]
    written.require_folder()
    written.require_unchanged(targets, sources=notebooks, force=force)
    data = data or chosen.load()
    check_label(parameters, data.class_names)
    Store().require_writable()

    start = time.perf_counter()
    nodes = {notebook: edition_of(notebook, edition) for notebook in notebooks}
    cells = {path.stem: [cell.id for cell in node.cells] for path, node in nodes.items()}
    chapters, results, seeds = [], [], {}
    expected = _expected_seconds(written, chosen.name)
    with ReportProgress(list(cells.items()), expected, label) as progress:
        for notebook in notebooks:
            progress.start_notebook(notebook.stem)
            with written.noting(executed_as[notebook]) as target:
                executed = execute(
                    notebook,
                    target,
                    {"task": task_name, **parameters[notebook]},
                    on_cell=progress.cell_done,
                    cell_timeout=cell_timeout,
                    cells=nodes[notebook],
                )
            chapters.append(render_chapter(executed, notebook.stem, cells, data.stamp))
            results += published_results(executed)
            if used := seeds_of(executed):
                seeds.setdefault(used, []).append(notebook.stem[:2])
    total = time.perf_counter() - start

    origin = provenance(best_device())
    page = render_page(
        chapters,
        title=f"Knowledge distillation: {chosen.text.title}",
        about="What distillation is and how it works, what it gains and what it costs. "
        "Every number below was computed by this run or loaded from the run store it names.",
        facts=[
            ("ran", f"chapters {', '.join(n.stem[:2] for n in notebooks)} in {total:.0f} s"),
            ("set for this run", ", ".join(settings) or "nothing: all defaults"),
            ("data", data.about),
            ("data fingerprint", data.fingerprint),
            ("seeds", "; ".join(f"{used} in {', '.join(who)}" for used, who in seeds.items())),
            ("device", origin["device"]),
            ("versions", ", ".join(f"{name} {origin[name]}" for name in VERSIONS)),
            ("system", origin["system"]),
        ],
    )
    record = {
        "task": chosen.name,
        "settings": list(settings),
        "data_fingerprint": data.fingerprint,
        "provenance": origin,
        "wall_seconds": round(total, 1),
        "cell_seconds": progress.seconds,
        "results": results,
    }
    text = json.dumps(record, indent=1) + "\n"
    written.write({f"{name}.json": text.encode(), f"{name}.html": page.encode()})
    return output / f"{name}.html"


def _expected_seconds(written: Written, task_name: str) -> dict[str, float]:
    """From the last report made here, else from the one kept in the project."""
    here, kept = f"{task_name}.json", REPORTS / "reference" / f"{task_name}.json"
    path = written.folder / here if written.wrote(here) else kept
    return json.loads(path.read_text(encoding="utf-8"))["cell_seconds"] if path.is_file() else {}
