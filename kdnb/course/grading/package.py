"""The students' kdnb: the same package without exercises, bugs, notebooks and grading."""

import base64
import hashlib
import io
from importlib.metadata import distribution
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import kdnb

PACKAGE = Path(kdnb.__file__).parent
# What holds answers, and what only a lecturer needs.
LEFT_OUT = ("course/exercises", "course/bugs", "course/grading")
SUFFIXES_LEFT_OUT = {".ipynb", ".pyc", ".md"}
IN_ITS_PLACE = '''\
"""The exercises of this package are graded: it holds no checker, no hint and no solution."""

ALL, BY_KEY = (), {}
'''


def student_package() -> tuple[str, bytes]:
    """(file name, content) of the wheel that students install."""
    about = distribution("kdnb")
    version = f"{about.version.partition('+')[0]}+graded"
    info = f"kdnb-{version}.dist-info"
    headers = about.read_text("METADATA").split("\n\n")[0]
    files = student_files() | {
        f"{info}/METADATA": f"{headers}\n".replace(
            f"\nVersion: {about.version}\n", f"\nVersion: {version}\n"
        ).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: kdnb\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},{_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    made = io.BytesIO()
    with ZipFile(made, "w", ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            # The same bytes each time: a date of today would make another file.
            entry = ZipInfo(name)
            entry.external_attr, entry.compress_type = 0o644 << 16, ZIP_DEFLATED
            wheel.writestr(entry, data)
    return f"kdnb-{version}-py3-none-any.whl", made.getvalue()


def student_files() -> dict[str, bytes]:
    """Every file of the students' package by its name in the wheel."""
    places = {path.relative_to(PACKAGE): path for path in sorted(PACKAGE.rglob("*"))}
    kept = {
        f"kdnb/{place.as_posix()}": path.read_bytes()
        for place, path in places.items()
        if path.is_file() and place.suffix not in SUFFIXES_LEFT_OUT
        and not any(PurePosixPath(place).is_relative_to(left) for left in LEFT_OUT)
    }  # fmt: skip
    return kept | {f"kdnb/{LEFT_OUT[0]}/__init__.py": IN_ITS_PLACE.encode()}


def _digest(data: bytes) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={found.decode()}"
