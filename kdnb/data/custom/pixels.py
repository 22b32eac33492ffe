"""How image files become pixels of 8 bits: one rule for all images of a folder.

- 8 bits stay unchanged; 1 bit, palettes and CMYK are converted by Pillow.
- Whole numbers of more bits are scaled by the smallest usual depth that holds the largest value of
  the whole folder, so that images keep their relative brightness: 4,000 is nearly white if no
  value is above 4,095.
- Floats lie between 0 and 1, or between 0 and 255 where the folder has one above 1.
- What is transparent is white. An image is turned as its EXIF data say, if they can be read. Of a
  moving image the first frame counts.
- NaN, negative and larger values are refused by the name of the image.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from kdnb.data.custom.names import plain
from kdnb.data.dataset import DataError

# Raise this with every change that affects pixels: stored images are then decoded again.
VERSION = 2
KINDS = {"I": "whole numbers", "F": "floats"}  # by the first letter of Pillow's mode
DEPTHS = (1, 2, 4, 8, 10, 12, 14, 16)  # bits: of files, cameras and scanners
# Pillow knows these by name alone, or has another program read them.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# These are known by their first bytes, whatever the file is called.
BY_CONTENT = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
LONGEST = 4  # times the shorter side: more of the longer one is cut off before resizing
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_picture(path: Path) -> bool:
    """Whether a file is an image by its suffix or else by its first bytes."""
    if Image.registered_extensions().get(path.suffix.lower()) in _formats():
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(path, formats=[f for f in BY_CONTENT if f in _formats()]).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # Pillow raises nearly anything on what is no image
        return False
    return True


@cache
def _formats() -> list[str]:
    Image.init()
    known = [name for name in Image.ID if name not in NO_PICTURES]
    return sorted(known, key=lambda name: name not in BY_CONTENT)


def decode_images(
    folder: Path, names: Sequence[str], size: int, grey: bool
) -> tuple[np.ndarray, str]:
    """The images as (N, 1 or 3, size, size) uint8, and what was scaled, in words.

    The shorter side becomes ``size`` and the middle is cut out. Raises `DataError` in one sentence.
    """
    try:
        pixels = np.empty((len(names), 1 if grey else 3, size, size), dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        raise DataError(
            f"{len(names):,} images of {size}×{size} pixels do not fit into memory: make size "
            "smaller"
        ) from error
    deep: list[int] = []  # rows of more than 8 bits a pixel
    largest: dict[str, float] = {}  # by kind of value
    coarse: dict[str, int] = {}  # by name the largest of 16-bit colours
    for row, name in enumerate(names):
        with _naming(folder, name):
            image, halved = _opened(folder / name)
            if (kind := image.mode[0]) in KINDS:
                deep.append(row)
                largest[kind] = max(_largest(image), largest.get(kind, 0))
                continue
            if halved:
                coarse[name] = max(high for _, high in image.convert("RGB").getextrema())
            pixels[row] = _fitted(image, size, grey)
    if coarse and max(coarse.values()) < 64:  # the lower byte is lost, and with it all
        raise DataError(
            f"the image {plain(max(coarse, key=coarse.get))} has 16 bits for each colour, of which "
            "Pillow reads the upper 8, and in no such image does it use more than 14: save them "
            "with 8 bits"
        )
    tops = {kind: _white(kind, top) for kind, top in largest.items()}
    for row in deep:  # again, for only now is the scale known
        with _naming(folder, names[row]):
            image, _ = _opened(folder / names[row])
            pixels[row] = _fitted(_eight_bits(image, tops[image.mode[0]]), size, grey)
    scales = " and ".join(f"{KINDS[kind]} from 0..{top:,}" for kind, top in sorted(tops.items()))
    return pixels, f"{len(deep):,} of more than 8 bits scaled, {scales}" if deep else ""


@contextmanager
def _naming(folder: Path, name: str) -> Iterator[None]:
    """Every complaint as a `DataError` that names the image."""
    try:
        yield
    except Exception as error:  # Pillow raises nearly anything on damaged files
        if isinstance(error, DataError):
            problem = str(error)
        elif isinstance(error, Image.DecompressionBombError):
            problem = f"is too large ({plain(error)}): make it smaller"
        else:
            problem = f"cannot be read ({plain(error)}): delete it or replace it"
        raise DataError(f"the image {plain(name)} in {plain(folder.name)} {problem}") from error


def _opened(path: Path) -> tuple[Image.Image, bool]:
    """An image upright, without the ends of a long strip; and whether 16 bits of colour became 8.

    Pillow reads the upper byte of such colours.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on notes about an image, and on its size below the limit
        with Image.open(path, formats=_formats()) as opened:
            halved = ";16" in str(opened.tile)
            opened.load()
            image = _upright(opened)
    width, height = image.size
    if spare := max(0, (max(image.size) - LONGEST * min(image.size)) // 2):
        left, top = (spare, 0) if width > height else (0, spare)
        image = image.crop((left, top, width - left, height - top))
    return image, halved


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # Pillow raises nearly anything on damaged notes: then the image has none
        return image
    return image if turn is None else image.transpose(turn)


def _largest(image: Image.Image) -> float:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise DataError("holds NaN or infinite values: replace them")
    limit = 255 if image.mode == "F" else 2 ** DEPTHS[-1] - 1
    low, high = values.min().item(), values.max().item()
    if low < 0 or high > limit:
        raise DataError(
            f"holds values from {low:g} to {high:g}, and {KINDS[image.mode[0]]} must lie in "
            f"0..{limit:,}: scale the images of the folder alike"
        )
    return high


def _white(kind: str, largest: float) -> int:
    """The value that becomes 255."""
    tops = (1, 255) if kind == "F" else (2**bits - 1 for bits in DEPTHS)
    return next(top for top in tops if largest <= top)


def _eight_bits(image: Image.Image, white: int) -> Image.Image:
    values = np.asarray(image)
    scaled = np.rint(values * (255 / white)).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        scaled[values == clear] = 255
    return Image.fromarray(scaled)


def _fitted(image: Image.Image, size: int, grey: bool) -> np.ndarray:
    """One image as (1 or 3, size, size) uint8, over white, its middle cut out."""
    from kdnb.torchvision_remedy import import_torchvision

    edit = import_torchvision().transforms.functional
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    image = image.convert("L" if grey else "RGB")
    pixels = np.asarray(edit.center_crop(edit.resize(image, size), size))
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)
