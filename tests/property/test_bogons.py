"""The bogon rule for one prefix and for columns is one rule."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.wire import bogons

_MAPPED = bytes(10) + b"\xff\xff"


@st.composite
def prefixes(draw: st.DrawFn) -> bytes:
    """Prefixes of both families, often near a listed block, host bits zero."""
    near = draw(st.sampled_from([0x0A, 0x64, 0xC0, 0xC6, 0xCB, 0xE0, 0x20, 0x3F, 0xFE, 0x00]))
    if draw(st.booleans()):
        address = _MAPPED + bytes([near]) + draw(st.binary(min_size=3, max_size=3))
        length = draw(st.integers(96, 128))
    else:
        start = draw(st.sampled_from([b"\x20\x01\x0d\xb8", b"\x20\x01\x00\x02", b"\x3f\xff"]))
        start = draw(st.sampled_from([start, bytes([near])]))
        address = start + draw(st.binary(min_size=16 - len(start), max_size=16 - len(start)))
        length = draw(st.integers(0, 128))
    host = 128 - length
    number = int.from_bytes(address, "big") >> host << host
    return number.to_bytes(16, "big") + bytes([length])


@given(st.lists(prefixes(), min_size=1, max_size=20), st.booleans())
def test_columns_and_single_prefixes_are_screened_alike(found: list[bytes], allow: bool) -> None:
    table = np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, 17)
    hi = np.ascontiguousarray(table[:, :8]).view(">u8").ravel().astype(np.uint64)
    lo = np.ascontiguousarray(table[:, 8:16]).view(">u8").ravel().astype(np.uint64)
    length = table[:, 16]
    bogon = bogons.is_bogon(hi, lo, length, allow).tolist()
    assert bogon == [bogons.is_bogon_prefix(prefix, allow) for prefix in found]
    default = bogons.is_default(hi, lo, length).tolist()
    assert default == [bogons.is_default_prefix(prefix) for prefix in found]
