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
# Modes "I" of these formats hold 16 bits; of others the range is not defined.
_SIXTEEN_BITS = {"PNG", "PPM"}


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


def decode(content: bytes, size: int) -> tuple[np.ndarray, str | None]:
    """Pixels of an encoded image, uint8 [size, size, 3], and what was done to it that its owner may not expect.

    The first frame, turned as its EXIF orientation says, cropped to the central square, averaged over areas.

    Raises:
        ValueError: it cannot be decoded, or its values have no defined meaning as colours; the message is a reason.
    """
    image = pillow()
    try:
        picture = image.open(io.BytesIO(content))
        frames = getattr(picture, "n_frames", 1)
        picture.load()
    except (OSError, ValueError, SyntaxError, TypeError, IndexError, image.DecompressionBombError):
        raise ValueError("expected an image, cannot be decoded") from None
    note = "images with several frames or pages: the first one was taken" if frames > 1 else None
    rgb, done = to_rgb(picture)
    return resize(rgb, size), done or note


def to_rgb(picture: Any) -> tuple[Any, str | None]:
    """A PIL image in mode RGB, and a remark where the conversion is a choice. Raises ValueError as `decode`."""
    from PIL import Image, ImageCms, ImageOps

    source = picture.format
    try:
        turned = ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF data, of which Pillow raises many kinds, say nothing of the pixels
        turned = picture
    remark = "images turned as their EXIF orientation says" if turned.size != picture.size else None
    picture = turned
    mode = picture.mode
    if mode in ("RGBa", "La"):
        picture = picture.convert("RGBA" if mode == "RGBa" else "LA")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layers = picture.convert("RGBA")
        if layers.getextrema()[3][0] == 255:
            return layers.convert("RGB"), remark
        ground = Image.new("RGBA", layers.size, "white")
        return Image.alpha_composite(ground, layers).convert("RGB"), "images with transparency: laid over white"
    if mode in _SHORT or (mode == "I" and source in _SIXTEEN_BITS):
        values = np.asarray(picture).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values from {values.min():g} to {values.max():g} are no 16-bit grey levels")
        return Image.fromarray(eight_bits(values / 65535)).convert("RGB"), "16-bit images: divided by 257"
    if mode == "F":
        values = np.asarray(picture)
        return Image.fromarray(unit(values)).convert("RGB"), "float images: multiplied by 255"
    if mode == "LAB":
        profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
        return ImageCms.profileToProfile(picture, *profiles, outputMode="RGB"), remark
    if mode not in ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise ValueError(f"mode {mode}: its values have no defined meaning as colours; convert to 8 bits first")
    return picture.convert("RGB"), remark


def unit(values: np.ndarray) -> np.ndarray:
    """uint8 of floats between 0 and 1. Raises ValueError for others: their range would be a guess."""
    low, high = float(np.min(values)), float(np.max(values))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"float values from {low:g} to {high:g} have no defined grey levels; scale them to 0 ... 1")
    return eight_bits(values.astype(np.float64))


def eight_bits(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * values).astype(np.uint8)


def from_array(image: np.ndarray, size: int) -> np.ndarray:
    """The same of an array [height, width], [height, width, 1, 3 or 4] or [1, 3 or 4, height, width].

    uint8 are grey levels, uint16 are divided by 257, floats must lie between 0 and 1.

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
    if image.dtype == np.uint16:
        image = eight_bits(image / 65535)
    elif image.dtype.kind == "f":
        image = unit(image)
    elif image.dtype != np.uint8:
        raise ValueError(f"images of type {image.dtype}: expected uint8, uint16, or floats between 0 and 1")
    return resize(to_rgb(Image.fromarray(np.ascontiguousarray(image)))[0], size)


def resize(picture: Any, size: int) -> np.ndarray:
    """The central square of a PIL image in mode RGB, averaged over areas: uint8 [size, size, 3]."""
    from PIL import Image, ImageOps

    if picture.size != (size, size):
        picture = ImageOps.fit(picture, (size, size), method=Image.Resampling.BOX)
    return np.asarray(picture)
