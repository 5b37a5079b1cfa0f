"""From bytes to text: the encoding that a file declares, or that its bytes allow. Others are refused, not guessed."""

from __future__ import annotations

import codecs

import numpy as np

# UTF-32 first: its mark begins like that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NO_TEXT = {
    b"%PDF-": "a PDF file",
    b"PK\3\4": "a zip archive or an office file",
    b"\xd0\xcf\x11\xe0": "an old office file",
    b"{\\rtf": "an RTF file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
}
_WESTERN = 0.3
"""share of bytes beyond ASCII up to which a text that is not UTF-8 may be Western European"""


def decode(content: bytes) -> tuple[str, str | None]:
    """The text of a file, and a remark where it is not valid UTF-8.

    A mark for UTF-16 or UTF-32 is obeyed; UTF-16 without one shows in its zeros. What is UTF-8 but for some bytes keeps
    U+FFFD in their place. Else it is read as Windows-1252, of which latin-1 is a part.

    Raises:
        ValueError: no text, or in an encoding that cannot be told; the message is a reason.
    """
    if what := next((what for start, what in _NO_TEXT.items() if content.startswith(start)), None):
        raise ValueError(f"{what}, no plain text")
    encoding = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and b"\0" in content:
        encoding = _utf16(content)
        if encoding is None:
            raise ValueError("binary: it has zero bytes")
    if encoding:
        try:
            return content.decode(encoding), f"files in {encoding[:6].upper()}"
        except UnicodeDecodeError:
            raise ValueError(f"damaged {encoding[:6].upper()}") from None
    try:
        return content.decode("utf-8-sig"), None
    except UnicodeDecodeError:
        return _not_utf8(content)


def _utf16(content: bytes) -> str | None:
    """UTF-16 without a mark: in most scripts every other byte is zero at least where a space stands."""
    if len(content) % 2:
        return None
    even, odd = (np.frombuffer(content, np.uint8)[start::2] == 0 for start in (0, 1))
    for encoding, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros.mean() > 0.1 and not others.any():
            return encoding
    return None


def _not_utf8(content: bytes) -> tuple[str, str]:
    text = content.decode(errors="replace")
    beyond = len(content.translate(None, bytes(range(128))))
    broken = text.count("\ufffd")
    valid = len(text) - (len(content) - beyond) - broken
    if valid >= broken:
        return text, "files in damaged UTF-8: U+FFFD in place of bytes that are none"
    if beyond > _WESTERN * len(content):
        raise ValueError("neither UTF-8 nor mostly ASCII: convert it to UTF-8, for example with iconv")
    try:
        return content.decode("cp1252"), "files that are not UTF-8: read as Windows-1252 or latin-1"
    except UnicodeDecodeError:
        raise ValueError("neither UTF-8 nor Windows-1252: convert it to UTF-8, for example with iconv") from None
