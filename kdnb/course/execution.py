"""Run the notebooks without a reader, and believe only what really ran."""

import ast
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import papermill
from jupyter_client.kernelspec import NoSuchKernel
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException

from kdnb.course.protocol import HEADLESS
from kdnb.data.dataset import PROJECT, data_root, start_folder
from kdnb.files import patiently
from kdnb.store import store_root

NOTEBOOKS = PROJECT / "notebooks"
KERNEL = "python3"
# Limits of glibc's malloc. It keeps freed memory up to these instead of giving it back to the
# system, which would clear it anew for each batch: a fifth of a ResNet's time. Others ignore them.
MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
GIB = 2**30


class NotebookError(RuntimeError):
    """A notebook could not be run to its end; the message names notebook, cell and cause."""


@dataclass(frozen=True)
class CellDone:
    """Told after each cell: cell ``number`` of ``total``, with its id."""

    notebook: str
    cell_id: str
    number: int
    total: int


def find_notebooks(only: Sequence[str] = (), folder: Path = NOTEBOOKS) -> list[Path]:
    """The course's notebooks in order; ``only`` picks some by their number, such as "02"."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise NotebookError(f"no notebooks in {folder}: run from a complete checkout")
    numbers = [path.name[:2] for path in found]
    for number in only:
        if number not in numbers:
            raise NotebookError(f"no notebook {number!r}: there are {', '.join(numbers)}")
    return [path for path in found if not only or path.name[:2] in only]


def parse_parameters(
    notebooks: Sequence[Path], settings: Sequence[str]
) -> dict[Path, dict[str, object]]:
    """Turn "name=value" texts into the parameters of each notebook that knows the name.

    Raises `NotebookError` for a name no notebook knows, or a value of another type than the
    notebook's own.
    """
    known = {path: papermill.inspect_notebook(path) for path in notebooks}
    chosen: dict[Path, dict[str, object]] = {path: {} for path in notebooks}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise NotebookError(f"--set takes name=value, got {setting!r}")
        takers = [path for path in notebooks if name in known[path]]
        if not takers:
            names = sorted({n for parameters in known.values() for n in parameters})
            raise NotebookError(f"unknown parameter {name!r}: the notebooks have {names}")
        for path in takers:
            default = ast.literal_eval(known[path][name]["default"])
            chosen[path][name] = _typed(name, text, default)
    return chosen


def _typed(name: str, text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is not None and type(value) is not type(default):
        raise NotebookError(f"{name} must be like {default!r}, got {text!r}")
    return value


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, object],
    *,
    on_cell: Callable[[CellDone], None] | None = None,
    cell_timeout: int | None = None,
    kernel: str = KERNEL,
    cells: NotebookNode | None = None,
) -> NotebookNode:
    """Run one notebook in its own folder and save it, executed, as ``output``.

    With ``cells``, run these in its place: an edition of it (`kdnb.course.editions`).

    Returns the executed notebook. Raises `NotebookError` if a cell fails, takes longer than
    ``cell_timeout`` seconds or did not run, or if the kernel dies or is missing; what had run by
    then is kept in ``output``.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **{name: os.environ.get(name, str(GIB)) for name in MALLOC},
        HEADLESS: "1",
        # A kernel works in the notebook's folder: relative paths would mean something else there.
        "KDNB_DATA": str(data_root()),
        "KDNB_RUNS": str(store_root()),
        "KDNB_START": str(start_folder()),
    }
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with _written_beside(output) as part:
            papermill.execute_notebook(
                notebook if cells is None else cells,
                part,
                parameters=dict(parameters),
                engine_name=ReportingEngine.NAME,
                kernel_name=kernel,
                cwd=str(notebook.parent),
                progress_bar=False,
                coalesce_streams=True,
                execution_timeout=cell_timeout,
                # Kernels warn about TCP on stderr, and of the interrupt that tells them to end.
                extra_arguments=["--log-level=CRITICAL"],
                on_cell=lambda *where: on_cell and on_cell(CellDone(notebook.stem, *where)),
            )
    except CellTimeoutError as error:
        raise _failed(
            notebook, output, f"a cell took longer than {cell_timeout} s (--cell-timeout)"
        ) from error
    except DeadKernelError as error:
        raise _failed(
            notebook, output, "its kernel died, often for lack of memory: close other programs"
        ) from error
    except NoSuchKernel as error:
        raise _failed(
            notebook, output, f"there is no Jupyter kernel {error.name!r}: run make to install it"
        ) from error
    except PapermillException as error:
        name = getattr(error, "ename", type(error).__name__)
        cause = f"{name}: {getattr(error, 'evalue', error)}"
        raise _failed(notebook, output, cause) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    executed = nbformat.read(output, as_version=4)
    require_complete(executed, notebook, output)
    return executed


@contextmanager
def _written_beside(output: Path) -> Iterator[Path]:
    """A hidden file, into which papermill writes after each cell; moved to its place at the end.

    So what is in its place was written to the end, or as far as the notebook came, by kdnb.
    """
    part = output.with_name(f".{output.stem}-running.ipynb")
    try:
        yield part
    finally:
        if part.exists():
            patiently(partial(os.replace, part, output))


def require_complete(executed: NotebookNode, notebook: Path, output: Path) -> None:
    """Raise `NotebookError` unless every code cell ran and none shows an error.

    papermill's own status is no proof: it calls cells completed that never ran.
    """
    for number, cell in enumerate(executed.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            raise _failed(notebook, output, f"cell {number} ({cell.id}) did not run")
        if any(o.output_type == "error" for o in cell.outputs):
            raise _failed(notebook, output, f"cell {number} ({cell.id}) shows an error")


def _failed(notebook: Path, output: Path, cause: str) -> NotebookError:
    kept = f"; what ran is kept in {output}" if output.exists() else ""
    return NotebookError(f"{notebook.name} stopped: {cause}{kept}")


class ReportingEngine(NBClientEngine):
    """papermill's own engine, which also tells when each cell is done."""

    NAME = "kdnb"

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: object, kernel_name: str, on_cell: Callable[..., None], **kwargs: object
    ) -> object:
        cell_complete = nb_man.cell_complete

        def complete(cell: NotebookNode, cell_index: int | None = None, **more: object) -> None:
            cell_complete(cell, cell_index=cell_index, **more)
            on_cell(cell.get("id", ""), (cell_index or 0) + 1, len(nb_man.nb.cells))

        nb_man.cell_complete = complete
        return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)


papermill_engines.register(ReportingEngine.NAME, ReportingEngine)
