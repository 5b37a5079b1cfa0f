"""How large a file may become when it is unpacked. A bomb is refused by its size, before it fills memory or the disk.

The published forms of ImageNet, OpenWebText and FineWeb unpack to less than ten times their size.
"""

from __future__ import annotations

from typing import Any

RATIO = 200
"""times the size of the file; deflate reaches 1,032, bzip2 and xz reach thousands, none of them on real data"""
FREE = 1 << 28
"""bytes that a file may become whatever its own size"""
TOTAL = 1 << 43
"""bytes that no file may exceed"""


class TooLarge(ValueError):
    """A file becomes too large. The message is a reason."""


class Allowance:
    """What one file of `packed` bytes may still become."""

    def __init__(self, packed: int) -> None:
        self._most = self._left = min(max(FREE, RATIO * packed), TOTAL)
        self._packed = packed

    def take(self, count: int) -> None:
        """Unpack `count` bytes more. Raises TooLarge."""
        self._left -= count
        if self._left < 0:
            raise TooLarge(
                f"{self._packed:,} bytes unpack to more than {self._most:,}; refused, since this may be an attack; "
                "if you trust the file, unpack it and give what is inside"
            )


def check_table(metadata: Any, packed: int) -> None:
    """Raise TooLarge if a parquet file of `packed` bytes declares more than they may become.

    Args:
        metadata: a `pyarrow.parquet.FileMetaData`.
    """
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    Allowance(packed).take(sum(group.total_byte_size for group in groups))
