"""Cuts off a shared library what running it never reads: debug information and the table of sections that leads to it.

The loader goes by segments alone (System V ABI, "Program Loading"), so a library may end where its last segment ends.
Some wheels carry many times the size of their code in debug information, and not every machine has `strip`.
"""

from __future__ import annotations

import struct
from pathlib import Path

# Where a 64-bit little-endian file's header has these: segments' and sections' place, size and number of segments.
SEGMENTS, SECTIONS, SEGMENT_SIZE, SECTION_NUMBERS = 32, 40, 54, 60
KIND = b"\x7fELF\x02\x01"


def cut_debug(library: Path) -> int:
    """Returns how many bytes went; files of any other kind are left alone."""
    content = bytearray(library.read_bytes())
    if not content.startswith(KIND):
        return 0
    (at,) = struct.unpack_from("<Q", content, SEGMENTS)
    size, number = struct.unpack_from("<HH", content, SEGMENT_SIZE)
    end = at + size * number
    for place in range(at, end, size):
        offset, in_file = (
            struct.unpack_from("<Q", content, place + 8)[0],
            struct.unpack_from("<Q", content, place + 32)[0],
        )
        end = max(end, offset + in_file)
    gone = len(content) - end
    struct.pack_into("<Q", content, SECTIONS, 0)
    struct.pack_into("<HH", content, SECTION_NUMBERS, 0, 0)
    library.write_bytes(content[:end])
    return gone
