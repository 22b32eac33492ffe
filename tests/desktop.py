"""A desktop without POSIX, as kdnb alone sees it; run by tests/test_every_desktop.py.

``python tests/desktop.py import|train|sweep`` does so and prints what it found as JSON. `hide` is
called by a ``sitecustomize.py`` before anything else, in every process that comes of it.
"""

import builtins
import importlib
import json
import os
import pkgutil
import re
import signal
import sys
import warnings
from types import ModuleType

MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
# What of `os` Windows has not, by the beginnings of its names, and all that it has of `signal`.
NOT_IN_OS = re.compile(
    r"""CLD_|EFD_|EX_|F_(LOCK|T|ULOCK)|GRND_|MFD_|NGROUPS|O_(ACCMODE|ASYNC|CLOEXEC|D|FSYNC|LARGEFILE)|
    O_(N[ODO]|PATH|RSYNC|SYNC|TMPFILE)|POSIX_|PRIO_|P_(ALL|PG|PID)|RTLD_|RWF_|SCHED_|SPLICE_|ST_|
    W[A-Z]|XATTR_|chown|chroot|confstr|copy_file|ctermid|environb|eventfd|fch|fdatasync|fork|
    fpathconf|fstatvfs|fwalk|get_blocking|get(e[gu]|envb|g|loadavg|p[gr]|random|res|sid|uid|xattr)|
    initgroups|killpg|lchown|listxattr|lockf|login_tty|major|makedev|memfd|minor|mkfifo|mknod|nice|
    openpty|pathconf|pidfd|pipe2|posix_|pread|pwrite|readv|register_at|removexattr|sched_|sendfile|
    set(?!_inh)|spawn.p|splice|statvfs|sync|sysconf|tcgetpgrp|tcsetpgrp|ttyname|uname|wait($|[34i])|
    writev""",
    re.VERBOSE,
)
IN_SIGNAL = re.compile(
    r"__|SIG(ABRT|FPE|ILL|INT|SEGV|TERM|_DFL|_IGN)$|NSIG|Signals|Handlers|signal$|getsignal|default_|"
    r"raise_|set_wakeup|strsignal|valid_"
)


class OnWindows(ModuleType):
    """`os` or `signal`, which ``has`` not all of its names."""

    def __init__(self, module, has):
        super().__init__(module.__name__)
        self.__dict__.update(_module=module, _has=has)

    def __getattr__(self, name):
        if not self._has(name):
            raise AttributeError(f"kdnb wants {self.__name__}.{name}, which Windows has not")
        return getattr(self._module, name)


SEEN = {
    "os": OnWindows(os, lambda name: not NOT_IN_OS.match(name)),
    "signal": OnWindows(signal, IN_SIGNAL.match),
}


def hide():
    """From now on kdnb's modules import nothing that Windows has not, and name their encodings."""
    imported = builtins.__import__

    def importing(name, globals=None, locals=None, fromlist=(), level=0):
        of_kdnb = (globals or {}).get("__name__", "").partition(".")[0] == "kdnb"
        if of_kdnb and level == 0 and name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"kdnb wants {name}, which Windows has not", name=name)
        if of_kdnb and level == 0 and name in SEEN:
            return SEEN[name]
        return imported(name, globals, locals, fromlist, level)

    builtins.__import__ = importing
    warnings.filterwarnings("error", category=EncodingWarning, module=r"kdnb(\.|$)")


TRIES = (
    "import fcntl",
    "from pwd import getpwuid",
    "from os import fork",
    "import os; os.getuid",
    "import os.path, signal; signal.SIGKILL",
    "open('sitecustomize.py')",
    "import os, signal; os.getenv, os.replace, os.environ, signal.SIGINT",
)


def try_imports():
    """What kdnb cannot do, and its modules, all imported."""
    refused = {}
    for line in TRIES:
        try:
            exec(line, {"__name__": "kdnb.example"})
        except (ImportError, AttributeError, EncodingWarning) as error:
            refused[line] = type(error).__name__
    import kdnb

    names = [found.name for found in pkgutil.walk_packages(kdnb.__path__, "kdnb.")]
    for name in names:
        importlib.import_module(name)
    return {"file": kdnb.__file__, "refused": refused, "modules": names}


def try_training():
    """A task stored, stopped half-way and resumed, read back and examined."""
    import torch
    from conftest import StopAt, make_tiny_task

    from kdnb import doctor
    from kdnb.experiment.experiment import Experiment
    from kdnb.experiment.methods import ALONE
    from kdnb.store.store import Store
    from kdnb.training import checkpoint

    checkpoint.SHARE = float("inf")  # every epoch is kept
    cpu, updates = torch.device("cpu"), []

    def experiment(folder, watch=None):
        store = Store(Store().root / folder)
        return Experiment(make_tiny_task(), store=store, watch=watch, device=cpu)

    whole = experiment("whole").student(ALONE, 0)
    stopped = experiment("stopped", StopAt(10)).student(ALONE, 0)
    resumed = experiment("stopped", updates.append).student(ALONE, 0)
    loaded = experiment("stopped").student(ALONE, 0)
    return {
        "interrupted": stopped.history.interrupted,
        "continued": updates[0].continued,
        "loaded": loaded.loaded,
        "same": len({run.weights for run in (whole, resumed, loaded)}) == 1,
        "entries": sorted(path.name for path in (Store().root / "stopped").iterdir()),
        "missing": [f"{f.name}: {f.found}" for f in doctor.examine() if not f.ok],
    }


def try_sweep():
    """Two workers of this machine."""
    import torch
    from conftest import make_tiny_task

    from kdnb.experiment.experiment import Experiment
    from kdnb.experiment.sweep import sweep
    from kdnb.store.store import Store

    lab = Experiment(make_tiny_task(), store=Store(), device=torch.device("cpu"))
    result = sweep(lab, [2.0, 4.0], [0.5], [0, 1], workers=2)
    return {"accuracies": list(result.accuracies.shape), "runs": len(lab.store.names("run-"))}


if __name__ == "__main__":
    steps = {"import": try_imports, "train": try_training, "sweep": try_sweep}
    print(json.dumps(steps[sys.argv[1]]()))
