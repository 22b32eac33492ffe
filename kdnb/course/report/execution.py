"""Run the notebooks without a reader, and check that every cell ran."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillException
from traitlets import default

from kdnb.course.report.protocol import HEADLESS
from kdnb.files import CONTENT, data_root, patiently, start_folder, store_root

NOTEBOOKS = CONTENT / "notebooks"
BACKEND = "module://matplotlib_inline.backend_inline"  # which a kernel has by itself
# glibc's malloc keeps freed memory up to these limits (1 GiB) instead of giving it back to the
# system, which would clear it anew for each batch: a fifth of a ResNet's time.
MALLOC = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
# jupyter_client looks for free ports and releases them: another program may take one before the
# kernel does. Such a kernel dies before it has run anything, with this message.
UNBORN, STARTS = "Kernel died before replying", 3


class NotebookError(RuntimeError):
    """A notebook did not run to its end; the message names notebook, cell and cause."""


@dataclass(frozen=True)
class CellDone:
    """Progress after each cell: cell ``number`` of ``total``, with its id."""

    notebook: str
    cell_id: str
    number: int
    total: int


def find_notebooks(only: Sequence[str] = (), folder: Path = NOTEBOOKS) -> list[Path]:
    """The course's notebooks in order; ``only`` picks some by their number, such as "02"."""
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise NotebookError(f"there are no notebooks in {folder}: install kdnb again")
    numbers = [path.name[:2] for path in found]
    for number in only:
        if number not in numbers:
            raise NotebookError(f"no notebook {number!r}: there are {', '.join(numbers)}")
    return [path for path in found if not only or path.name[:2] in only]


def execute(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, object],
    cell_timeout: int | None = None,
    cells: NotebookNode | None = None,
    *,
    on_cell: Callable[[CellDone], None] | None = None,
) -> NotebookNode:
    """Run one notebook in its own folder and save it, executed, as ``output``; returns it.

    It runs under this interpreter without personal settings for IPython and matplotlib, so that a
    report looks the same for everyone. ``cells``, an edition of the notebook, replace its own.

    Raises `NotebookError` if a cell fails, takes longer than ``cell_timeout`` seconds or did not
    run, or if the kernel dies; what had run by then is kept in ``output``.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            TemporaryDirectory(prefix="kdnb-") as empty,
            environment(**_without_a_reader(empty)),
            _written_beside(output) as part,
        ):
            papermill.execute_notebook(
                notebook if cells is None else cells,
                part,
                parameters=dict(parameters),
                engine_name=ReportingEngine.NAME,
                kernel_name=NATIVE_KERNEL_NAME,
                kernel_manager_class=OwnInterpreter,
                cwd=str(notebook.parent),
                progress_bar=False,
                coalesce_streams=True,
                execution_timeout=cell_timeout,
                # Kernels warn on stderr about TCP, and about the interrupt that ends them.
                extra_arguments=["--log-level=CRITICAL"],
                on_cell=lambda *where: on_cell and on_cell(CellDone(notebook.stem, *where)),
            )
    except CellTimeoutError as error:
        cause = f"a cell took longer than {cell_timeout} s (--cell-timeout)"
        raise _failed(notebook, output, cause) from error
    except DeadKernelError as error:
        cause = "its kernel died, often for lack of memory: close other programs"
        raise _failed(notebook, output, cause) from error
    except RuntimeError as error:
        if UNBORN not in str(error):
            raise
        raise _failed(notebook, output, f"its kernel died {STARTS} times at its start") from error
    except PapermillException as error:
        name = getattr(error, "ename", type(error).__name__)
        cause = f"{name}: {getattr(error, 'evalue', error)}"
        raise _failed(notebook, output, cause) from error
    executed = nbformat.read(output, as_version=4)
    require_complete(executed, notebook, output)
    return executed


def _without_a_reader(empty: str) -> dict[str, str]:
    """Environment variables of a headless kernel; ``empty`` is a folder for its settings."""
    settings = Path(empty) / "matplotlibrc"
    settings.touch()
    return {
        **{name: os.environ.get(name, str(2**30)) for name in MALLOC},
        HEADLESS: "1",
        # A kernel works in the notebook's folder: relative paths would mean something else there.
        "KDNB_DATA": str(data_root()),
        "KDNB_RUNS": str(store_root()),
        "KDNB_START": str(start_folder()),
        "IPYTHONDIR": empty,
        "PYTHONSTARTUP": "",
        "MATPLOTLIBRC": str(settings),
        "MPLBACKEND": BACKEND,
    }


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set these environment variables inside the block; processes started there inherit them."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _written_beside(output: Path) -> Iterator[Path]:
    """A hidden file, into which papermill writes after each cell; moved to its place at the end."""
    part = output.with_name(f".{output.stem}-running.ipynb")
    try:
        yield part
    finally:
        if part.exists():
            patiently(partial(os.replace, part, output))


def require_complete(executed: NotebookNode, notebook: Path, output: Path) -> None:
    """Raise `NotebookError` unless every code cell ran and none shows an error.

    papermill calls cells completed that never ran.
    """
    for number, cell in enumerate(executed.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            raise _failed(notebook, output, f"cell {number} ({cell.id}) did not run")
        if any(o.output_type == "error" for o in cell.outputs):
            raise _failed(notebook, output, f"cell {number} ({cell.id}) shows an error")


def _failed(notebook: Path, output: Path, cause: str) -> NotebookError:
    kept = f"; the cells that ran are in {output}" if output.exists() else ""
    return NotebookError(f"{notebook.name} stopped: {cause}{kept}")


class OwnInterpreter(AsyncKernelManager):
    """Starts a kernel of this interpreter: a reader's "python3" may be one without kdnb."""

    @default("kernel_spec_manager")
    def _no_installed_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


class ReportingEngine(NBClientEngine):
    """papermill's own engine, which also reports each finished cell.

    A kernel that dies at its start is started again, up to `STARTS` times in all.
    """

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
        for start in range(1, STARTS + 1):
            try:
                return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            except RuntimeError as error:
                if start == STARTS or UNBORN not in str(error):
                    raise


papermill_engines.register(ReportingEngine.NAME, ReportingEngine)
