"""Modes and formats of image files: their right values in red, green and blue of 0 to 255."""

import io

import numpy as np
import pytest
from PIL import Image

from decaylab.data import pixels
from decaylab.data.pixels import decode, from_array

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16


def encoded(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3, axis=-1)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_shades(form):
    """Fails on commit b58299d: all became one white."""
    values = RAMP.astype(np.uint16) * 257
    image, remarks = decode(encoded(Image.fromarray(values), form), 4)
    np.testing.assert_array_equal(image, grey(RAMP))
    assert remarks == [pixels.SIXTEEN]
    assert decode(encoded(Image.fromarray(values // 257), form), 4)[1] == [pixels.DARK]


def test_floats_between_0_and_1_are_grey_levels_and_others_are_refused():
    image, remarks = decode(encoded(Image.fromarray((RAMP / 255).astype(np.float32)), "TIFF"), 4)
    np.testing.assert_array_equal(image, grey(RAMP))
    assert remarks == [pixels.FLOAT]
    for values in (RAMP.astype(np.float32), RAMP / 255 - 1, np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"^float values from \S+ to \S+ have no defined grey levels; scale them"):
            decode(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"), 4)


def test_integers_without_a_range_are_refused():
    with pytest.raises(ValueError, match=r"^mode I: its values have no defined meaning as colours"):
        decode(encoded(Image.fromarray(RAMP.astype(np.int32) * 1000), "TIFF"), 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_shapes_in_transparency_are_laid_over_white(mode):
    """Fails on commit b58299d: all became black."""
    channels = [np.zeros_like(RAMP)] * (len(mode) - 1) + [RAMP]
    image, remarks = decode(encoded(Image.fromarray(np.stack(channels, axis=-1)), "PNG"), 4)
    np.testing.assert_array_equal(image, grey(255 - RAMP))
    assert remarks == [pixels.OVER_WHITE]


def test_a_transparent_colour_of_a_palette_is_laid_over_white():
    picture = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 10, 20, 30])
    image, remarks = decode(encoded(picture, "PNG", transparency=0), 2)
    assert image[0].tolist() == [[255] * 3, [10, 20, 30]]
    assert remarks == [pixels.OVER_WHITE]


def test_an_alpha_channel_that_hides_nothing_changes_nothing():
    channels = np.stack([RAMP, RAMP // 2, RAMP // 3, np.full_like(RAMP, 255)], axis=-1)
    image, remarks = decode(encoded(Image.fromarray(channels), "PNG"), 4)
    np.testing.assert_array_equal(image, channels[..., :3])
    assert remarks == []


@pytest.mark.parametrize(("orientation", "turn"), [(3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_obeyed(orientation, turn):
    """Fails on commit b58299d, which ignored it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image, remarks = decode(encoded(Image.fromarray(grey(RAMP)), "PNG", exif=exif), 4)
    np.testing.assert_array_equal(image, grey(np.rot90(RAMP, turn)))
    assert remarks == [pixels.TURNED]


def test_cmyk_and_the_first_of_several_frames():
    picture = Image.fromarray(grey(RAMP)).convert("CMYK")
    np.testing.assert_array_equal(decode(encoded(picture, "TIFF"), 4)[0], grey(RAMP))
    frames = [Image.fromarray(grey(values)) for values in (RAMP, 255 - RAMP)]
    image, remarks = decode(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), 4)
    np.testing.assert_array_equal(image, grey(RAMP))
    assert remarks == [pixels.FRAMES]


def test_every_extension_that_pillow_decodes_is_known():
    assert {".pgm", ".tga", ".avif", ".jp2", ".jfif", ".ico", ".webp", ".tif"} <= pixels.suffixes()
    assert not {".pdf", ".eps", ".mpg", ".h5", ".txt"} & pixels.suffixes()
    for form in ("PPM", "TGA", "PCX", "SGI", "BMP", "GIF", "JPEG2000", "ICO"):
        lossless = {"sizes": [(4, 4)]} if form == "ICO" else {}
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(RAMP), form, **lossless), 4)[0], grey(RAMP))


@pytest.mark.parametrize("cut", [0, 10, 45])
def test_damaged_files_of_every_format_are_one_reason(cut):
    for form in ("PNG", "GIF", "TIFF", "JPEG", "TGA", "BMP", "ICO", "PCX", "WEBP"):
        with pytest.raises(ValueError, match=r"^expected an image, cannot be decoded$"):
            decode(encoded(Image.fromarray(grey(RAMP)), form)[:cut], 4)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RAMP, grey(RAMP)),
        (RAMP[..., None], grey(RAMP)),
        (grey(RAMP), grey(RAMP)),
        (np.moveaxis(grey(np.kron(RAMP, np.ones((2, 2), np.uint8))), -1, 0), grey(RAMP)),
        (RAMP.astype(np.uint16) * 257, grey(RAMP)),
        ((RAMP / 255).astype(np.float32), grey(RAMP)),
        (np.concatenate([np.zeros_like(grey(RAMP)), RAMP[..., None]], axis=-1), grey(255 - RAMP)),
    ],
)
def test_arrays(array, expected):
    np.testing.assert_array_equal(from_array(array, 4)[0], expected)


def test_arrays_without_a_meaning_are_refused():
    with pytest.raises(ValueError, match=r"^images of type int64: expected uint8"):
        from_array(RAMP.astype(np.int64), 4)
    with pytest.raises(ValueError, match=r"^images of shape \[16\]: expected"):
        from_array(RAMP.ravel(), 4)
