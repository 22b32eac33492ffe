"""From a task to its report: run the notebooks, collect their results, write one page."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import torch
from nbformat import NotebookNode

from kdnb.course.report.editions import edition as edition_of
from kdnb.course.report.execution import CellDone, environment, execute, find_notebooks
from kdnb.course.report.gathered import gather
from kdnb.course.report.page import published_results, render_chapter, render_page
from kdnb.course.report.parameters import check_label, parse_parameters
from kdnb.course.report.terminal import ReportProgress
from kdnb.course.report.written import Written
from kdnb.data import Dataset
from kdnb.environment import best_device, provenance
from kdnb.files import CONTENT, PROJECT
from kdnb.store.store import Store
from kdnb.tasks import task
from kdnb.tasks.config import APART, Task

REPORTS = PROJECT / "report"
AT_ONCE = 2  # chapters of several reports; more would train the same models beside one another
VERSIONS = ("kdnb", "python", "torch", "torchvision", "numpy")


def make_reports(task_names: Sequence[str], **options: object) -> Iterator[Path]:
    """`make_report` for several tasks: `AT_ONCE` chapters at a time, each in a process of its own.

    Chapters run in the order of the tasks, so that the first page is ready soon. The last chapter
    of a report needs the others' models and waits for them. Yields the path of each page as soon as
    it is written. One task's error is raised at the end, when the other tasks are done. Raises
    ValueError for a task that is named twice: two reports would write the same files.
    """
    plain = [name.replace(".py:", ":") for name in task_names]
    if twice := [name for name in task_names if plain.count(name.replace(".py:", ":")) > 1]:
        raise ValueError(f"the task {twice[0]} is named twice: name each task once")
    share = max(1, torch.get_num_threads() // AT_ONCE)
    names, reports, running, errors = list(task_names), [], {}, []
    with (
        environment(OMP_NUM_THREADS=str(share)),  # processes and their kernels inherit it
        ExitStack() as opened,  # closed after the pool: then no notebook runs any more
        ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool,
    ):
        while names or reports:
            free = AT_ONCE - len(running)
            if ready := [report for report in reports if report.ready][:free]:
                running |= {report.submit(pool): report for report in ready}
            elif names and free:
                try:  # its data are loaded while chapters of other reports run
                    report = _Report(names.pop(0), **options)
                except Exception as error:
                    errors.append(error)
                else:
                    reports.append(report)
                    report.progress = opened.enter_context(report.new_progress())
                    opened.callback(report.close)
            else:
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    errors += running.pop(done).finished(done)
                for report in [r for r in reports if not r.waiting and r not in running.values()]:
                    reports.remove(report)
                    if not report.failed:
                        yield report.write()
    if errors:
        raise errors[0]


def make_report(task_name: str, **options: object) -> Path:
    """Run the notebooks on a task and write ``output/<task's name>.html``; returns its path.

    ``settings`` are "name=value" texts for notebook parameters, ``only`` the numbers of the
    notebooks to run, ``edition`` a form of their exercises (`kdnb.course.report.editions`). Beside
    the page are ``<task>.json`` with the results and the seconds of each cell, and ``<task>/`` with
    the executed notebooks. Files that kdnb did not write, or that have changed since, are
    overwritten only with ``force``.

    Raises ValueError, `kdnb.data.DataError` or `kdnb.store.StoreError` before any notebook starts,
    and `kdnb.course.report.execution.NotebookError` if one does not run to its end.
    """
    report = _Report(task_name, **options)
    with report.new_progress() as report.progress:
        for notebook in report.notebooks:
            report.run(notebook)
    return report.write()


class _Report:
    """One report: its notebooks, those that have run, and its page."""

    def __init__(
        self,
        task_name: str,
        *,
        settings: Sequence[str] = (),
        only: Sequence[str] = (),
        output: Path = REPORTS,
        cell_timeout: int | None = None,
        edition: str = "report",
        force: bool = False,
    ):
        chosen = task(task_name)
        self.notebooks, data = chosen_notebooks(chosen, only)
        self.parameters = parse_parameters(self.notebooks, settings)
        if cell_timeout is not None and cell_timeout < 1:
            raise ValueError(f"a cell needs at least 1 second, got --cell-timeout {cell_timeout}")
        self.name = "-".join([chosen.name, *dict.fromkeys(only)])
        self.written = Written(output, chosen.name)
        self.targets = {path: f"{chosen.name}/{path.name}" for path in self.notebooks}
        names = [f"{self.name}.html", f"{self.name}.json", *self.targets.values()]
        self.written.require_folder()
        self.written.require_unchanged(names, sources=self.notebooks, force=force)
        self.data = data or chosen.load()
        check_label(self.parameters, self.data.class_names)
        Store().require_writable()
        self.task, self.task_name, self.settings = chosen, task_name, settings
        self.cell_timeout, self.start = cell_timeout, time.perf_counter()
        self.nodes = {path: edition_of(path, edition) for path in self.notebooks}
        self.cells = {path.stem: [c.id for c in node.cells] for path, node in self.nodes.items()}
        self.waiting, self.failed = list(self.notebooks), False
        self.executed: dict[Path, NotebookNode] = {}
        self._noting: dict[Future, tuple[Path, ExitStack]] = {}
        self.progress: ReportProgress | None = None

    def new_progress(self) -> ReportProgress:
        """Its progress on the terminal."""
        expected = _expected_seconds(self.written, self.task.name)
        return ReportProgress(list(self.cells.items()), expected, self.task.name)

    def run(self, notebook: Path) -> None:
        """Run one notebook here, with a bar of its cells."""
        self.progress.start_notebook(notebook.stem)
        with self.written.noting(self.targets[notebook]) as target:
            self.executed[notebook] = execute(
                *self._how(notebook, target), on_cell=self.progress.cell_done
            )

    def _how(self, notebook: Path, target: Path) -> tuple:
        parameters = {"task": self.task_name, **self.parameters[notebook]}
        return notebook, target, parameters, self.cell_timeout, self.nodes[notebook]

    @property
    def ready(self) -> bool:
        """Whether a notebook can start; the last one waits for all others."""
        return bool(self.waiting) and not (len(self.waiting) == 1 and self._noting)

    def submit(self, pool: ProcessPoolExecutor) -> Future:
        """Start the next notebook in a process of the pool."""
        notebook, noting = self.waiting.pop(0), ExitStack()
        target = noting.enter_context(self.written.noting(self.targets[notebook]))
        future = pool.submit(_timed, self._how(notebook, target))
        self._noting[future] = notebook, noting
        return future

    def finished(self, future: Future) -> list[BaseException]:
        """Take a finished notebook's results; its error, if there is one, ends the report."""
        notebook, noting = self._noting.pop(future)
        noting.close()
        if error := future.exception():
            self.waiting, self.failed = [], True
            return [error]
        self.executed[notebook], seconds = future.result()
        self.progress.notebook_done(notebook.stem, seconds)
        return []

    def close(self) -> None:
        """Record the files of notebooks that stopped half-way as kdnb's own."""
        for _, noting in self._noting.values():
            noting.close()

    def write(self) -> Path:
        """Write the page and its JSON, of all notebooks in their order."""
        total = time.perf_counter() - self.start
        chapters, results = [], []
        executed = {notebook.stem: self.executed[notebook] for notebook in self.notebooks}
        gathered = gather(executed)
        for name, notebook in executed.items():
            chapters.append(render_chapter(notebook, name, self.cells, self.data.stamp))
            results += published_results(notebook)
        origin, data = provenance(best_device()), self.data
        numbers = ", ".join(path.stem[:2] for path in self.notebooks)
        page = render_page(
            chapters,
            title=f"Knowledge distillation: {self.task.text.title}",
            about="An introduction to knowledge distillation: how it works, its gains and its "
            "costs. This run computed every number below or loaded it from the run store.",
            facts=[
                ("ran", f"chapters {numbers} in {total:.0f} s"),
                ("set for this run", ", ".join(self.settings) or "nothing (all defaults)"),
                ("data", data.about),
                ("data fingerprint", data.fingerprint),
                ("device", origin["device"]),
                ("versions", ", ".join(f"{name} {origin[name]}" for name in VERSIONS)),
                ("system", origin["system"]),
            ],
            gathered=gathered,
        )
        record = {
            "task": self.task.name,
            "settings": list(self.settings),
            "data_fingerprint": data.fingerprint,
            "provenance": origin,
            "wall_seconds": round(total, 1),
            "cell_seconds": self.progress.seconds,
            "results": results,
        }
        text = json.dumps(record, indent=1) + "\n"
        contents = {f"{self.name}.json": text.encode(), f"{self.name}.html": page.encode()}
        self.written.write(contents)
        return self.written.folder / f"{self.name}.html"


def chosen_notebooks(chosen: Task, only: Sequence[str]) -> tuple[list[Path], Dataset | None]:
    """The notebooks that a report on a task holds, and its data where they had to be loaded.

    Raises ValueError if one of the numbers in ``only`` does not fit the task.
    """
    data = chosen.load() if not chosen.text.notebooks else None
    fitting = chosen.text.notebooks or chosen.chapters(data)
    notebooks = find_notebooks(only or fitting)
    if unfit := [number for number in only if number not in (*fitting, *APART)]:
        raise ValueError(
            f"notebook {unfit[0]} does not fit the task {chosen.name}: "
            f"choose from {', '.join(fitting)}"
        )
    return notebooks, data


def _timed(how: tuple) -> tuple[NotebookNode, dict[str, float]]:
    """An executed notebook, and the seconds of each "notebook/cell"."""
    seconds, before = {}, time.monotonic()

    def cell_done(cell: CellDone) -> None:
        nonlocal before
        now = time.monotonic()
        seconds[f"{cell.notebook}/{cell.cell_id}"], before = round(now - before, 2), now

    return execute(*how, on_cell=cell_done), seconds


def _expected_seconds(written: Written, task_name: str) -> dict[str, float]:
    """Seconds of each cell in the last report made here, else in the stored reference report."""
    here, kept = f"{task_name}.json", CONTENT / "report" / "reference" / f"{task_name}.json"
    path = written.folder / here if written.wrote(here) else kept
    return json.loads(path.read_text(encoding="utf-8"))["cell_seconds"] if path.is_file() else {}
