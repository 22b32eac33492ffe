"""How image files become pixels: one scale for a folder, white ground, upright, little memory."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, PngImagePlugin

from kdnb.data import DataError, ImageFolder
from kdnb.data.custom import pixels

SIZE = 12
MANY = settings(max_examples=40, deadline=None)


def decode(folder: Path, *names: str, size: int = SIZE, grey: bool = True) -> np.ndarray:
    """(N, size, size) in grey, or (N, 3, size, size)."""
    return pixels.decode_images(folder, names, size, grey)[0].squeeze(1 if grey else ())


def save(folder: Path, name: str, values: np.ndarray) -> str:
    Image.fromarray(values).save(folder / name)
    return name


def ramp(largest: float, kind: type) -> np.ndarray:
    return np.linspace(0, largest, SIZE**2).reshape(SIZE, SIZE).astype(kind)


# Values


@pytest.mark.parametrize(
    ("suffix", "kind", "largest", "white"),
    [
        ("png", np.uint16, 4_095, 4_095),  # 12 bits in 16
        ("tif", np.uint16, 255, 255),
        ("tif", np.int32, 255, 255),
        ("png", np.uint16, 65_535, 65_535),
        ("tif", np.uint16, 1_000, 1_023),
        ("tif", np.int32, 9_000, 16_383),
        ("png", np.uint16, 1, 1),  # a mask
        ("tif", np.float32, 1, 1),
        ("tif", np.float32, 0.7, 1),
        ("tif", np.float32, 255, 255),
        ("tif", np.float32, 30, 255),
        ("pgm", np.int32, 65_535, 65_535),
    ],
)
def test_values_are_scaled_by_what_is_there(tmp_path, suffix, kind, largest, white):
    values = ramp(largest, kind)
    name = save(tmp_path, f"x.{suffix}", values)
    expected = np.rint(values.astype(np.float64) * 255 / white)
    assert np.array_equal(decode(tmp_path, name)[0], expected)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=2, max_size=5))
@MANY
def test_one_scale_holds_for_all_images_of_a_folder(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("deep")
    flat = [np.full((SIZE, SIZE), value, np.uint16) for value in values]
    got = decode(folder, *(save(folder, f"{i}.png", one) for i, one in enumerate(flat)))[:, 0, 0]
    depth = min(bits for bits in (1, 2, 4, 8, 10, 12, 14, 16) if max(values) < 2**bits)
    assert got.tolist() == [round(value * 255 / (2**depth - 1)) for value in values]


def test_images_of_8_bits_stay_beside_deeper_ones(tmp_path):
    plain, deep = ramp(255, np.uint8), ramp(4_095, np.uint16)
    names = [save(tmp_path, "8.png", plain), save(tmp_path, "16.png", deep)]
    names.append(save(tmp_path, "f.tif", ramp(1, np.float32)))
    first, second, third = decode(tmp_path, *names)
    assert np.array_equal(first, plain)
    assert abs(second.astype(int) - first).max() <= 1 and abs(third.astype(int) - first).max() <= 1


@given(st.integers(0, 2**32 - 1), st.sampled_from(["L", "RGB"]))
@MANY
def test_images_of_8_bits_are_not_touched(tmp_path_factory, seed, mode):
    folder = tmp_path_factory.mktemp("plain")
    shape = (SIZE, SIZE) if mode == "L" else (SIZE, SIZE, 3)
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    got = decode(folder, save(folder, "x.png", values), grey=mode == "L")[0]
    assert np.array_equal(got, values if mode == "L" else values.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            ramp(100_000, np.int32),
            r"bad.tif in .* holds values from 0 to 100000, and whole .* 0..65,535",
        ),
        (ramp(255, np.int32) - 9, "bad.tif in .* holds values from -9 to 246"),
        (
            ramp(2, np.float32) - 1,
            r"bad.tif in .* holds values from -1 to 1, and floats .* in 0..255",
        ),
        (ramp(1_000, np.float32), "bad.tif in .* holds values from 0 to 1000"),
        (
            np.where(np.eye(SIZE), np.float32("inf"), np.float32(0)),
            "bad.tif in .* holds NaN or infinite",
        ),
        (
            np.where(np.eye(SIZE), np.float32("nan"), np.float32(0)),
            "bad.tif in .* holds NaN or infinite",
        ),
    ],
)
def test_values_without_a_scale_are_refused_by_the_images_name(tmp_path, values, says):
    names = save(tmp_path, "good.tif", ramp(1, np.float32)), save(tmp_path, "bad.tif", values)
    with pytest.raises(DataError, match=says) as raised:
        decode(tmp_path, *names)
    assert "\n" not in str(raised.value)


def png(values: np.ndarray, colours: int) -> bytes:
    """A PNG file of 16 bits a channel, which Pillow cannot write in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sums = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + sums

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colours, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("largest", [255, 4_095, 16_383])
@pytest.mark.parametrize(("colours", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_that_hold_fewer_are_refused(tmp_path, largest, colours, channels):
    values = np.repeat(ramp(largest, np.uint16)[..., None], channels, 2)
    if channels != 3:
        values[..., -1] = 65_535  # opaque
    (tmp_path / "dark.png").write_bytes(png(values, colours))
    with pytest.raises(DataError, match=r"dark.png has 16 bits for each colour, of which"):
        decode(tmp_path, "dark.png")
    values[..., :3] = ramp(65_535, np.uint16)[..., None]
    values[..., 3:] = 65_535
    if channels != 2:
        (tmp_path / "full.png").write_bytes(png(values, colours))
        both = decode(tmp_path, "full.png", "dark.png")  # the folder uses all bits
        assert np.array_equal(both[0], ramp(65_535, np.uint16) >> 8)


# Transparency, colour, frames


def drawing(mode: str) -> Image.Image:
    """A black square on a ground that is transparent, and black as well."""
    if mode == "P":
        image = Image.new("P", (SIZE, SIZE), 0)
        image.putpalette([0, 0, 0] * 2)
        image.paste(1, (3, 3, 9, 9))
        return image
    image = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((3, 3, 8, 8), (0, 0, 0, 255))
    return image.convert(mode)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize(
    ("mode", "name", "more"),
    [
        ("RGBA", "x.png", {}),
        ("LA", "x.png", {}),
        ("P", "x.png", {"transparency": 0}),
        ("P", "x.png", {"transparency": b"\x00\xff"}),
        ("P", "x.gif", {"transparency": 0}),
        ("RGBA", "x.webp", {"lossless": True}),
        ("RGBA", "x.tif", {}),
    ],
)
def test_what_is_transparent_is_white(tmp_path, grey, mode, name, more):
    drawing(mode).save(tmp_path / name, **more)
    got = decode(tmp_path, name, grey=grey)[0]
    expected = np.full((SIZE, SIZE), 255)
    expected[3:9, 3:9] = 0
    assert (got == expected).all()


def test_half_transparent_is_half_white_and_16_bits_have_a_ground_too(tmp_path):
    save(tmp_path, "x.png", np.full((SIZE, SIZE, 4), (0, 0, 0, 51), np.uint8))
    assert (decode(tmp_path, "x.png") == 204).all()  # 255 - 51
    values = ramp(65_535, np.uint16)
    Image.fromarray(values).save(tmp_path / "y.png", transparency=0)
    assert decode(tmp_path, "y.png")[0].flat[[0, -1]].tolist() == [255, 255]
    assert decode(tmp_path, "y.png")[0].flat[1] == round(values.flat[1] / 257)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "L"])
def test_other_modes_are_what_pillow_makes_of_them(tmp_path, mode):
    image = Image.fromarray(np.dstack([ramp(255, np.uint8)] * 3)).convert(mode)
    image.save(tmp_path / "x.tif")
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(tmp_path, "x.tif", grey=False)[0], expected)


def test_the_first_frame_of_a_moving_image_counts(tmp_path):
    frames = [Image.new("L", (SIZE, SIZE), shade) for shade in (200, 90, 10)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert (decode(tmp_path, "x.gif") == 200).all()


# EXIF


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI4s", tag, kind, count, value)


SIX = entry(0x112, 3, 1, b"\x06\0\0\0")  # turned by a quarter
HEAD = b"Exif\0\0II*\0\x08\0\0\0"


@given(st.binary(max_size=60))
@example(b"\x05\0\x12\x01")  # cut short
@example(b"\x02\0" + SIX + entry(0x100, 2, 4, b"abc\0") + b"\0" * 4)  # a width that is text
@example(b"\x01\0" + entry(0x112, 2, 4, b"6abc") + b"\0" * 4)  # an orientation that is text
@example(b"\x02\0" + SIX + entry(0x8769, 4, 1, b"\xff\xff\xff\x7f") + b"\0" * 4)  # points nowhere
@example(b"\x01\0" + entry(0x112, 5, 1, b"\x08\0\0\0") + b"\0" * 8)  # a fraction over 0
@settings(max_examples=100, deadline=None)
def test_damaged_exif_is_ignored(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("exif")
    image = Image.fromarray(ramp(255, np.uint8))
    image.save(folder / "plain.webp", lossless=True)
    image.save(folder / "x.webp", exif=HEAD + data, lossless=True)
    plain, got = decode(folder, "plain.webp", "x.webp")
    turned = [np.rot90(one, k) for one in (plain, plain[:, ::-1]) for k in range(4)]
    assert any(np.array_equal(got, one) for one in turned)


def test_readable_exif_turns_the_image_although_the_rest_is_damaged(tmp_path):
    values = ramp(255, np.uint8)
    for name, rest in {"good": b"", "bad": entry(0x100, 2, 4, b"abc\0")}.items():
        count = struct.pack("<H", 2 if rest else 1)
        exif = HEAD + count + SIX + rest + b"\0" * 4
        Image.fromarray(values).save(tmp_path / f"{name}.webp", exif=exif, lossless=True)
    good, bad = decode(tmp_path, "good.webp", "bad.webp")
    assert np.array_equal(good, bad) and abs(good.astype(int) - np.rot90(values, -1)).max() <= 3


@pytest.mark.parametrize("text", ["\nexif\n  4\nzzzz", "x", "\nexif\n 4\n4949"])
def test_exif_in_the_text_of_a_png_may_be_damaged(tmp_path, text):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Raw profile type exif", text)
    values = ramp(255, np.uint8)
    Image.fromarray(values).save(tmp_path / "x.png", pnginfo=notes)
    assert np.array_equal(decode(tmp_path, "x.png")[0], values)


# Size


@given(st.integers(1, 30), st.integers(1, 4_000), st.booleans())
@MANY
def test_what_is_cut_off_is_not_resized(tmp_path_factory, short, long, upright):
    folder = tmp_path_factory.mktemp("strip")
    values = np.arange(long)[None].repeat(short, 0).astype(np.int32)
    save(folder, "x.tif", values.T.copy() if upright else values)
    image, _ = pixels._opened(folder / "x.tif")
    kept = np.asarray(image)
    kept = kept[:, 0] if upright else kept[0]
    if long <= pixels.LONGEST * short:
        assert len(kept) == long  # as ever, to the bit
    else:
        assert len(kept) - pixels.LONGEST * short in (0, 1)
        assert kept[0] == long - 1 - kept[-1]  # the middle, to half a pixel


def test_a_strip_keeps_its_middle(tmp_path):
    values = np.zeros((1, 20_000), np.uint8)
    values[:, 9_998:10_002] = 180
    assert (decode(tmp_path, save(tmp_path, "x.png", values), size=224) == 180).all()
    assert (decode(tmp_path, save(tmp_path, "y.png", values.T.copy()), size=224) == 180).all()


def test_huge_images_are_one_sentence(tmp_path, monkeypatch):
    name = save(tmp_path, "x.png", ramp(255, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE**2 - 1)  # Pillow warns from here on
    assert decode(tmp_path, name).max() == 255
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIZE**2 // 2 - 1)  # and raises beyond twice that
    with pytest.raises(
        DataError, match=r"the image x.png in .* is too large \(.*: make it smaller"
    ):
        decode(tmp_path, name)
    with pytest.raises(DataError, match="do not fit into memory: make size smaller"):
        decode(tmp_path, name, size=10**9)


# Kept pixels


def test_what_was_scaled_is_said_again_and_another_way_of_decoding_decodes_again(
    tmp_path, monkeypatch
):
    from kdnb.data.custom import sources as own

    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))
    for c, name in enumerate("ab"):
        (tmp_path / "x" / name).mkdir(parents=True)
        for i in range(4):
            values = np.random.default_rng((c, i)).integers(0, 4_096, (SIZE, SIZE))
            save(tmp_path / "x" / name, f"{i}.png", values.astype(np.uint16))
    first = ImageFolder(tmp_path / "x", SIZE)()
    assert "; 8 of more than 8 bits scaled, whole numbers from 0..4,095;" in first.about
    own._read.cache_clear()
    monkeypatch.setattr(pixels, "_opened", None)  # nothing is opened
    again = ImageFolder(tmp_path / "x", SIZE)()
    assert again.about == first.about and again.fingerprint == first.fingerprint
    monkeypatch.undo()
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "runs"))
    own._read.cache_clear()
    monkeypatch.setattr(own, "VERSION", own.VERSION + 1)
    assert ImageFolder(tmp_path / "x", SIZE)().fingerprint == first.fingerprint
    assert len(list((tmp_path / "runs").glob("pixels-*"))) == 2


def test_the_version_is_raised_with_every_change_of_the_pixels(tmp_path):
    """If this fails, raise `VERSION`, and put the new digest here."""
    rng = np.random.default_rng(0)
    names = [save(tmp_path, "rgb.png", rng.integers(0, 256, (30, 41, 3)).astype(np.uint8))]
    names.append(save(tmp_path, "rgba.png", rng.integers(0, 256, (41, 30, 4)).astype(np.uint8)))
    names.append(save(tmp_path, "grey.png", rng.integers(0, 4_096, (20, 99)).astype(np.uint16)))
    names.append(save(tmp_path, "float.tif", rng.random((25, 25)).astype(np.float32)))
    found = pixels.decode_images(tmp_path, names, SIZE, False)[0]
    assert (pixels.VERSION, hashlib.sha256(found).hexdigest()[:16]) == (2, "7f44c207bdbffcdc")
