"""What a published effect says of itself beside key and value: which cut it comes from.

It travels as one record header, since a tombstone has no value to carry it: 20 bytes, big-endian,
cut (8), term (8), partition (4).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

#: Name of the record header.
HEADER = "edgesteer-cut"
SIZE = 20
_LAYOUT = np.dtype([("cut", ">u8"), ("term", ">u8"), ("partition", ">u4")])


def pack_cut(partition: int, cut: int, term: int) -> bytes:
    """The header's 20 bytes."""
    return cut.to_bytes(8, "big") + term.to_bytes(8, "big") + partition.to_bytes(4, "big")


def unpack_cut(header: bytes) -> tuple[int, int, int]:
    """(partition, cut, term) of a header. Raises ValueError unless it has 20 bytes."""
    if len(header) != SIZE:
        raise ValueError(f"a cut header has {SIZE} bytes, not {len(header)}")
    return (
        int.from_bytes(header[16:], "big"),
        int.from_bytes(header[:8], "big"),
        int.from_bytes(header[8:16], "big"),
    )


def unpack_cuts(
    headers: Sequence[bytes],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(partition, cut, term) columns of headers that all have 20 bytes; numbers below 2**63."""
    table = np.frombuffer(b"".join(headers), dtype=_LAYOUT)
    return (
        table["partition"].astype(np.int64),
        table["cut"].astype(np.int64),
        table["term"].astype(np.int64),
    )
