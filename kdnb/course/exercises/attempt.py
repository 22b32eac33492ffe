"""The reader's function, called with care: it may raise, loop or write into its arguments."""

import copy
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter as clock
from types import CodeType, FrameType

import torch
from torch import Tensor, nn

TOO_LONG = 1.0  # seconds that a call may take
FIRST_CALL = 3.0  # the first may have to import something
PACKAGE = str(Path(__file__).parents[2])


class Failed(Exception):  # noqa: N818 (not an error of this program, but a finding)
    """A call came to nothing; ``name`` and ``text`` are for the verdict."""

    def __init__(self, name: str, text: str):
        super().__init__(text)
        self.name, self.text = name, text


class _Stop(BaseException):
    """Stops a call. Not an Exception, which a reader's own `except` might catch."""


class Attempt:
    """A callable that gives what the reader's function returns, or raises `Failed`.

    Where it must be the reader's ``own``, it may call no function of kdnb.
    """

    def __init__(self, function: object, own: bool = False):
        if not callable(function):
            kind = type(function).__name__
            raise Failed("not a function", f"A function is wanted, here is a {kind}.")
        self._function, self._own, self._limits = function, own, (FIRST_CALL, TOO_LONG)

    def __call__(self, *arguments: object) -> object:
        """What it returns for copies of the arguments, which it must leave as they are."""
        given = copied(arguments)
        result = self.with_these(*given)
        for number, (now, before) in enumerate(zip(given, arguments, strict=True), start=1):
            # What may become of a network, an exercise about it asks for itself.
            same = torch.equal(now, before) if isinstance(now, Tensor) else now == before
            if not same and not isinstance(now, nn.Module):
                raise Failed(
                    "arguments changed",
                    f"Your function writes into its argument number {number}, which its caller "
                    "goes on to use: work on new tensors, without operations in place.",
                )
        return result

    def with_these(self, *arguments: object) -> object:
        """What it returns for these very arguments."""
        limits, self._limits = self._limits, (TOO_LONG,)
        try:
            for limit in limits:
                result, seconds = self._timed(arguments, limit)
                if seconds <= TOO_LONG:
                    break
            else:
                raise _Stop
        except _Stop:
            says = "Your function needs more than a second for a few numbers: does it end?"
            raise Failed("too slow", says) from None
        except Failed:
            raise
        except (Exception, SystemExit) as error:
            line = _line_of(error, self._function)
            text = f"Your function raises {type(error).__name__}{line}: {error}"
            raise Failed("an error", text.rstrip(".") + ".") from error
        if result is None:
            raise Failed("nothing returned", "Your function returns None: is a `return` missing?")
        return result

    def _timed(self, arguments: tuple, limit: float) -> tuple[object, float]:
        start = clock()
        alone = _without_kdnb(arguments) if self._own else nullcontext()
        with _time_limit(limit), warnings.catch_warnings(), alone:
            warnings.simplefilter("ignore")
            return self._function(*arguments), clock() - start


def is_stub(attempt: object, stub: str) -> bool:
    """Whether nothing has been written yet: no answer, or a function that does what the stub's does

    Strings are not compared: a docstring may have been changed.
    """
    if attempt is None or attempt is ...:
        return True
    code = getattr(attempt, "__code__", None)
    blanks = [c for c in compile(stub, "stub", "exec").co_consts if isinstance(c, CodeType)]
    return any(code is not None and _does(code) == _does(blank) for blank in blanks)


def _does(code: CodeType) -> tuple:
    constants = tuple(c for c in code.co_consts if not isinstance(c, (str, CodeType)))
    return code.co_name, code.co_code, code.co_names, constants


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Stop what takes longer; without such a timer (Windows, a thread) only the clock is read."""
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        yield
        return

    def stop(*_: object) -> None:
        raise _Stop

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _without_kdnb(arguments: tuple) -> Iterator[None]:
    """Raise `Failed` where a function of kdnb is called, under whatever name it was imported.

    Functions and networks among the arguments are the exercise's and may be called.
    """
    given = {a.__code__ for a in arguments if hasattr(a, "__code__")}
    given |= {
        type(module).forward.__code__
        for network in arguments if isinstance(network, nn.Module)
        for module in network.modules()
    }  # fmt: skip
    used: list[str] = []

    def see(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        ours = code.co_filename.startswith(PACKAGE) and code.co_filename != __file__
        if event == "call" and ours and code not in given:
            used.append(code.co_name)
            raise _Stop

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        yield
    except BaseException:
        if not used:
            raise
    finally:
        sys.setprofile(before)
        if used:
            says = f"Your function calls kdnb's `{used[0]}`: write its work yourself."
            raise Failed("uses kdnb's own function", says)


def _line_of(error: BaseException, function: Callable) -> str:
    """ " in line 3" of the reader's cell, where that is known."""
    code = getattr(function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if code and f.filename == code.co_filename]
    return f" in line {lines[-1]}" if lines else ""


def copied(arguments: tuple) -> list:
    """Arguments into which a function may write."""
    mutable = (Tensor, list, nn.Module)
    return [copy.deepcopy(a) if isinstance(a, mutable) else a for a in arguments]
