"""Files written whole or not at all, on every system."""

import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file beside its place and move it there: nobody sees half of it.

    A file that is there is replaced; of a link the link, not what it leads to. Raises OSError.
    """
    part = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        patiently(partial(os.replace, part, path))
    finally:
        with suppress(OSError):  # what stays is hidden, and has a name of its own
            part.unlink(missing_ok=True)


def patiently(move: Callable[[], object]) -> None:
    """Try again for a second: Windows moves and removes no file that another process has open."""
    for pause in (0.01, 0.1, 1.0):
        try:
            move()
            return
        except PermissionError:
            time.sleep(pause)
    move()
