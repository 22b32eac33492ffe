"""The tasks of the course by name, and tasks in the reader's own modules."""

from kdnb.tasks.config import Task
from kdnb.tasks.custom import CustomTask
from kdnb.tasks.mhist import MHIST, POLYPS, POLYPS_224
from kdnb.tasks.mnist import MNIST, MNIST_2X5
from kdnb.tasks.mnist_small import MNIST_SMALL, MNIST_SMALL_2X5
from kdnb.tasks.modules import imported

ALL = (MNIST_SMALL, MNIST_SMALL_2X5, MNIST, MNIST_2X5, POLYPS, POLYPS_224, MHIST)
TASKS = {task.name: task for task in ALL}


def task(name: str) -> Task:
    """The task called ``name``, or "module:name" for a task in the reader's own module.

    The module is a name or a path (`kdnb.tasks.modules.imported`), looked for where the command was
    started, then wherever Python looks. Raises ValueError in one sentence if there is no such task,
    or its data or networks do not fit.

    >>> task("mnist-2x5").temperature
    4.0
    """
    if ":" in name:
        found = _own(*name.rsplit(":", 1))
        return found.resolved(found.load())
    if name not in TASKS:
        raise ValueError(
            f"unknown task {name!r}: choose one of {', '.join(TASKS)}, or my_module:my_task"
        )
    return TASKS[name]


def _own(module_name: str, name: str) -> Task | CustomTask:
    if not name:
        raise ValueError(f"which task of {module_name} is meant? name it: {module_name}:my_task")
    module = imported(module_name)
    found = getattr(module, name, None)
    if found is None:
        tasks = [n for n, value in vars(module).items() if isinstance(value, Task | CustomTask)]
        raise ValueError(
            f"the module {module_name} has no {name!r}: its tasks are {', '.join(tasks) or 'none'}"
        )
    if not isinstance(found, Task | CustomTask):
        raise ValueError(
            f"{module_name}:{name} is a {type(found).__name__} and not a task: "
            "make one with kdnb.tasks.custom.custom_task"
        )
    if found.name in TASKS and found is not TASKS[found.name]:
        raise ValueError(f"the name {found.name!r} belongs to a task of the course: choose another")
    return found
