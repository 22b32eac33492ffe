"""Files that kdnb writes where a reader may work: the reader's changes are not overwritten."""

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from kdnb.files import write_whole

NOTE = ".kdnb-written.json"
MARK = "SHA-256 of what kdnb wrote"


class WouldBeLostError(ValueError):
    """Files have changed since kdnb wrote them; the message names them and a remedy."""


class Written:
    """The files that kdnb wrote into a folder, recorded with their SHA-256 in a note.

    Files are named by their path from the folder; a link never counts as kdnb's. The note is in
    the subfolder ``part``, one for each of several processes.
    """

    def __init__(self, folder: Path, part: str = ""):
        self.folder, self._note = folder, folder / part / NOTE

    def require_folder(self) -> None:
        """Raise ValueError unless files can be written here; the folder is made where missing."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=self.folder).close()
        except OSError as error:
            says = f"nothing can be written to {self.folder} ({error.strerror})"
            raise ValueError(f"{says}: give --output a writable folder") from error

    def require_unchanged(
        self,
        names: Collection[str],
        *,
        sources: Iterable[Path] = (),
        contents: Mapping[str, bytes] | None = None,
        force: bool = False,
    ) -> None:
        """Raise `WouldBeLostError` if one of these files exists and is not as kdnb wrote it.

        A file that already has its new ``contents`` is safe. With ``force`` all files may be
        replaced, except in the folder of the ``sources``.
        """
        for folder in {(self.folder / name).parent for name in names}:
            if folder.exists() and any(folder.samefile(each.parent) for each in sources):
                says = f"{folder} holds the original notebooks"
                raise WouldBeLostError(f"{says}: name another folder with --output")
        if force:
            return
        noted, contents = self._read(), contents or {}
        lost = [NOTE] if noted is None else []
        for name in names:
            same = (noted or {}).get(name), name in contents and _digest(contents[name])
            path = self.folder / name
            if os.path.lexists(path) and (path.is_symlink() or _digest_of(path) not in same):
                lost.append(name)
        if lost:
            raise WouldBeLostError(
                f"nothing was written: {', '.join(lost)} in {self.folder} would be lost, since "
                "kdnb did not write this content: name another folder with --output, or use --force"
            )

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write these files, each completely or not at all; the folder is made."""
        self._note.parent.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(self.folder / name, [content])
            self._took(name)

    @contextmanager
    def noting(self, name: str) -> Iterator[Path]:
        """Record the content that the block writes into this file as kdnb's."""
        path = self.folder / name
        before = _digest_of(path)
        try:
            yield path
        finally:
            if _digest_of(path) != before:
                self._took(name)

    def wrote(self, name: str) -> bool:
        """Whether a file exists as kdnb wrote it."""
        path = self.folder / name
        return path.is_file() and _digest_of(path) == (self._read() or {}).get(name)

    def _took(self, name: str) -> None:
        noted = (self._read() or {}) | {name: _digest_of(self.folder / name)}
        write_whole(self._note, [(json.dumps({MARK: noted}, indent=1) + "\n").encode()])

    def _read(self) -> dict[str, str] | None:
        """The note, empty where there is none; None where another file has its name."""
        try:
            return dict(json.loads(self._note.read_text(encoding="utf-8"))[MARK])
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(path: Path) -> str:
    """The digest of a file; "" if it cannot be read, such as a folder."""
    try:
        return _digest(path.read_bytes())
    except OSError:
        return ""
