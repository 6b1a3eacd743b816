"""The reader on any bytes: it never raises, its account adds up (L3), and what it makes of routes
is what the general encoder makes."""

import gzip
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.feeds.compressed import Source
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from tests import mrt_files as mrt
from tests.mrt_files import Read

asns = st.integers(1, (1 << 32) - 1)
paths = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4]), st.lists(asns, min_size=1, max_size=5)), max_size=3
)
lengths = st.integers(8, 32)


@st.composite
def routes(draw: st.DrawFn) -> str:
    first = draw(st.sampled_from([1, 8, 80, 151, 223]))
    rest = draw(st.integers(0, (1 << 24) - 1))
    length = draw(lengths)
    number = (first << 24 | rest) >> (32 - length) << (32 - length)
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/{length}"


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, dict[str, object]]:
    """Attributes, and the fields of the route that they say."""
    segments = draw(paths)
    block = mrt.ORIGIN
    block += mrt.attribute(2, b"".join(mrt.segment(*each) for each in segments)) + mrt.NEXT_HOP
    med, local_pref = draw(st.none() | asns), draw(st.none() | asns)
    communities = draw(st.lists(asns, max_size=70))
    if med is not None:
        block += mrt.attribute(4, med.to_bytes(4, "big"), 0x80)
    if local_pref is not None:
        block += mrt.attribute(5, local_pref.to_bytes(4, "big"))
    if communities:
        value = b"".join(each.to_bytes(4, "big") for each in communities)
        block += mrt.attribute(8, value, 0xC0)
    hops = sum(1 if kind == 1 else len(numbers) for kind, numbers in segments if kind < 3)
    fields: dict[str, object] = {"med": med, "local_pref": local_pref}
    return block, fields | {"communities": communities, "as_path_len": hops}


def read(data: bytes) -> Read:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        return Read(Source(Path(file.name)))


@given(
    st.lists(st.tuples(blocks(), st.lists(routes(), min_size=1, max_size=6)), max_size=4), st.data()
)
def test_what_is_written_is_read(
    updates: list[tuple[tuple[bytes, dict[str, object]], list[str]]], data: st.DataObject
) -> None:
    records, expected = [], []
    for (block, fields), announced in updates:
        path_id = data.draw(st.none() | st.integers(0, (1 << 32) - 1))
        inner = mrt.update(b"", block, mrt.nlri(*announced, path_id=path_id))
        records.append(mrt.bgp4mp(inner, 4 if path_id is None else 9))
        expected += [(f"fra1|{mrt.PEER}|{text}|{path_id or 0}", fields) for text in announced]
    found = read(b"".join(records))
    assert found.account.read == found.account.announced == len(expected)
    assert [key for key, _, _ in found.rows] == [key for key, _ in expected]
    for route, (_, fields) in zip(found.routes, expected, strict=True):
        assert {name: route[name] for name in fields} == fields


@given(
    st.lists(
        st.tuples(blocks(), st.lists(routes(), min_size=1, max_size=4)), min_size=1, max_size=3
    )
)
def test_assembled_records_are_the_bytes_of_the_general_encoder(
    updates: list[tuple[tuple[bytes, dict[str, object]], list[str]]],
) -> None:
    records = [
        mrt.bgp4mp(mrt.update(mrt.nlri(announced[0]), block, mrt.nlri(*announced)))
        for (block, _), announced in updates
    ]
    values = read(b"".join(records)).values
    assert values
    for value in values:
        assert encode(*decode(value)) == value


SEED_FILE = b"".join(
    (
        mrt.peer_index((mrt.PEER, 65001), ("2001:7f8:1::a500:3333:1", 400_000)),
        mrt.rib("8.8.8.0/24", (0, mrt.attributes()), (1, mrt.attributes())),
        mrt.rib("2a00::/12", (1, mrt.attributes(mrt.mp_reach(b"", bytes(32)))), subtype=4),
        mrt.rib("8.8.4.0/24", (0, mrt.attributes()), subtype=8, path_ids=[9]),
        mrt.table_dump("8.0.0.0/9", mrt.attributes(size=2)),
        mrt.bgp4mp(mrt.update(mrt.nlri("9.9.9.0/24"), mrt.attributes(), mrt.nlri("8.8.8.0/24"))),
        mrt.bgp4mp(mrt.update(b"", mrt.mp_unreach(mrt.nlri("2a00::/12")))),
        mrt.bgp4mp(mrt.update(), 9),
        mrt.state_change(5, 6),
        mrt.bgp4mp(mrt.update(b"", mrt.attributes(size=2), mrt.nlri("1.0.0.0/24")), 1, 2),
    )
)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SEED_FILE) - 1),
            st.sampled_from(["set", "drop", "insert"]),
            st.integers(0, 255),
        ),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_l3_mutated_files_never_raise_and_the_account_adds_up(
    mutations: list[tuple[int, str, int]], compressed: bool
) -> None:
    data = bytearray(gzip.compress(SEED_FILE, mtime=0) if compressed else SEED_FILE)
    for place, how, value in mutations:
        at = place % len(data)
        if how == "set":
            data[at] = value
        elif how == "drop" and len(data) > 1:
            del data[at]
        else:
            data.insert(at, value)
    found = read(bytes(data))
    account = found.account
    assert account.unaccounted == 0
    assert account.read == account.announced + account.withdrawn + account.refused.total()
    assert account.sent == len(found.rows)


@given(st.binary(max_size=300))
def test_any_bytes_as_attributes_and_as_messages_are_accounted_for(data: bytes) -> None:
    found = read(
        mrt.bgp4mp(mrt.update(b"", data, mrt.nlri("8.8.8.0/24"))) + mrt.bgp4mp(mrt.message(data))
    )
    assert found.account.unaccounted == 0
    assert found.account.records == 2
