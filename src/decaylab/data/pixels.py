"""From an image file to uint8 pixels: what each mode of Pillow means in red, green and blue of 0 to 255.

A bare conversion to RGB clips 16-bit and float images to one grey and drops transparency, so shapes are lost.
"""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np

from decaylab.errors import InputError

# Formats whose pixels Pillow cannot decode by itself, or that are no pictures.
_STUBS = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
_SHORT = ("I;16", "I;16L", "I;16B", "I;16N")
# Mode "I" of these formats holds 16 bits; of others its range is not defined.
_SIXTEEN_BITS = ("PNG", "PPM")
_ORIENTATION = 0x0112

FRAMES = "images of several frames or pages: the first was taken"
TURNED = "images turned as their EXIF orientation says"
OVER_WHITE = "images with transparency: laid over white"
SIXTEEN = "16-bit images: divided by 257"
DARK = "16-bit images that use less than a sixteenth of their range: divided by 257, so that little contrast is left"
FLOAT = "float images: multiplied by 255"


def pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise InputError("image files need Pillow: pip install decaylab[images]") from None
    return Image


@functools.cache
def suffixes() -> frozenset[str]:
    """Extensions of all formats that the installed Pillow decodes."""
    image = pillow()
    image.init()
    return frozenset(
        suffix for suffix, name in image.registered_extensions().items() if name in image.OPEN and name not in _STUBS
    )


def decode(content: bytes, size: int) -> tuple[np.ndarray, list[str]]:
    """Pixels of an encoded image, uint8 [size, size, 3], and what was done to it that its owner may not expect.

    The first frame, turned as its EXIF orientation says, cropped to the central square, averaged over areas.

    Raises:
        ValueError: it cannot be decoded, or its values have no defined meaning as colours; the message is a reason.
    """
    try:
        picture = pillow().open(io.BytesIO(content))
        frames = getattr(picture, "n_frames", 1)
        picture.load()
    except InputError:
        raise
    except pillow().DecompressionBombError:
        raise ValueError(f"more than {2 * pillow().MAX_IMAGE_PIXELS:,} pixels; refused: make it smaller") from None
    except Exception:  # damaged files make Pillow's decoders raise many kinds
        raise ValueError("expected an image, cannot be decoded") from None
    rgb, remarks = to_rgb(picture)
    return resize(rgb, size), [FRAMES] * (frames > 1) + remarks


def to_rgb(picture: Any) -> tuple[Any, list[str]]:
    """A PIL image in mode RGB, and remarks where the conversion is a choice. Raises ValueError as `decode`."""
    from PIL import Image, ImageCms

    sixteen_bits = picture.mode in _SHORT or (picture.mode == "I" and picture.format in _SIXTEEN_BITS)
    picture, remarks = _upright(picture)
    mode = picture.mode
    if sixteen_bits:
        values = np.asarray(picture).astype(np.float64)
        grey = Image.fromarray(eight_bits(values / 65535)).convert("RGB")
        return grey, [*remarks, DARK if values.max() < 4096 else SIXTEEN]
    if mode == "F":
        return Image.fromarray(unit(np.asarray(picture))).convert("RGB"), [*remarks, FLOAT]
    if mode in ("RGBa", "La"):
        picture = picture.convert("RGBA" if mode == "RGBa" else "LA")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        if layers.getextrema()[3][0] == 255:
            return layers.convert("RGB"), remarks
        ground = Image.new("RGBA", layers.size, "white")
        return Image.alpha_composite(ground, layers).convert("RGB"), [*remarks, OVER_WHITE]
    if mode == "LAB":
        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        return ImageCms.profileToProfile(picture, *profiles, outputMode="RGB"), remarks
    if mode not in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise ValueError(f"mode {mode}: its values have no defined meaning as colours; convert it to 8 bits")
    return picture.convert("RGB"), remarks


def _upright(picture: Any) -> tuple[Any, list[str]]:
    from PIL import ImageOps

    try:
        if picture.getexif().get(_ORIENTATION, 1) == 1:
            return picture, []
        return ImageOps.exif_transpose(picture), [TURNED]
    except Exception:  # damaged EXIF data, of which Pillow raises many kinds, say nothing of the pixels
        return picture, []


def unit(values: np.ndarray) -> np.ndarray:
    """uint8 of floats between 0 and 1. Raises ValueError for others: their range would be a guess."""
    low, high = float(np.min(values)), float(np.max(values))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"float values from {low:g} to {high:g} have no defined grey levels; scale them to 0 ... 1")
    return eight_bits(values.astype(np.float64))


def eight_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * values).astype(np.uint8)


def from_array(image: np.ndarray, size: int) -> tuple[np.ndarray, list[str]]:
    """The same of an array [height, width], [height, width, 1, 3 or 4] or [1, 3 or 4, height, width].

    uint8 are grey levels, uint16 are divided by 257, floats must lie between 0 and 1, a fourth channel is alpha.

    Raises:
        ValueError: another type, shape or range.
    """
    from PIL import Image

    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise ValueError(f"images of shape {list(image.shape)}: expected [height, width] or [height, width, 1, 3 or 4]")
    done = []
    if image.dtype == np.uint16:
        image, done = eight_bits(image / 65535), [SIXTEEN]
    elif image.dtype.kind == "f":
        image, done = unit(image), [FLOAT]
    elif image.dtype != np.uint8:
        raise ValueError(f"images of type {image.dtype}: expected uint8, uint16, or floats between 0 and 1")
    rgb, remarks = to_rgb(Image.fromarray(np.ascontiguousarray(image)))
    return resize(rgb, size), done + remarks


def resize(picture: Any, size: int) -> np.ndarray:
    """The central square of a PIL image in mode RGB, averaged over areas: uint8 [size, size, 3]."""
    from PIL import Image, ImageOps

    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=Image.Resampling.BOX)
    return np.asarray(picture)
