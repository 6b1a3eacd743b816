"""The columnar encoder must say, byte for byte, what the wire's own encoder says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sim import encode
from pipeline.wire import primitives
from pipeline.wire.encode import encode as encode_record
from pipeline.wire.encode import encode_many

LONG = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=True, allow_infinity=True)
EVENTS = ("START", "HEARTBEAT", "BITRATE", "STALL", "STOP", "FAILOVER")
CLASSES = ("VOD", "LIVE", "GAME")
NAMES = ["", "a", "fra-ix1-a07", "æther-β", "x" * 200]


def longs(rows: list[dict], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=np.int64)


def fixed(rows: list[dict], name: str) -> np.ndarray:
    width = len(rows[0][name])
    return np.frombuffer(b"".join(row[name] for row in rows), np.uint8).reshape(-1, width)


def coded(rows: list[dict], name: str, encodings: dict) -> encode.Coded:
    values = list(encodings)
    table = encode.table(list(encodings.values()))
    return table.take(np.array([values.index(row[name]) for row in rows]))


PLAYS = st.fixed_dictionaries(
    {
        "session": LONG,
        "at_ms": LONG,
        "event": st.sampled_from(EVENTS),
        "client": st.binary(min_size=16, max_size=16),
        "appliance": st.sampled_from(NAMES),
        "file": LONG,
        "traffic_class": st.sampled_from(CLASSES),
        "bytes": LONG,
        "bitrate_bps": LONG,
        "startup_ms": LONG,
        "stall_ms": LONG,
    }
)


@given(st.lists(PLAYS, min_size=1, max_size=30))
def test_plays_are_encoded_as_the_wire_does(rows: list[dict]) -> None:
    columns = {
        name: longs(rows, name)
        for name in ("session", "at_ms", "file", "bytes", "bitrate_bps", "startup_ms", "stall_ms")
    }
    columns["event"] = np.array([EVENTS.index(row["event"]) for row in rows])
    columns["traffic_class"] = np.array([CLASSES.index(row["traffic_class"]) for row in rows])
    columns["client"] = fixed(rows, "client")
    columns["appliance"] = coded(rows, "appliance", {name: primitives.text(name) for name in NAMES})
    assert encode.encode_rows("PlayEvent", columns) == encode_many("PlayEvent", rows)


SAMPLES = st.fixed_dictionaries(
    {
        "site": st.sampled_from(NAMES),
        "client": st.binary(min_size=17, max_size=17),
        "at_ms": LONG,
        "rtt_us": LONG,
        "loss": DOUBLE,
        "throughput_bps": LONG,
        "samples": LONG,
    }
)


@given(st.lists(SAMPLES, min_size=1, max_size=10))
def test_doubles_are_encoded_as_the_wire_does(rows: list[dict]) -> None:
    columns = {name: longs(rows, name) for name in ("at_ms", "rtt_us", "throughput_bps", "samples")}
    columns["site"] = encode.texts(NAMES).take(np.array([NAMES.index(row["site"]) for row in rows]))
    columns["client"] = fixed(rows, "client")
    columns["loss"] = np.array([row["loss"] for row in rows])
    assert encode.encode_rows("PathSample", columns) == encode_many("PathSample", rows)


MEDS = [None, 0, 5, 2**32]
COMMUNITIES = [(), (7,), (0xFFFF_FF03, 1, 2)]
PATHS = ["", "64512", "64512 {64513,64514}"]
ROUTES = st.fixed_dictionaries(
    {
        "site": st.sampled_from(NAMES),
        "peer": st.sampled_from(NAMES),
        "peer_asn": LONG,
        "prefix": st.binary(min_size=17, max_size=17),
        "path_id": LONG,
        "action": st.sampled_from(["ANNOUNCE", "WITHDRAW"]),
        "as_path": st.sampled_from(PATHS),
        "as_path_len": st.integers(0, 2**31 - 1),
        "med": st.sampled_from(MEDS),
        "local_pref": st.sampled_from(MEDS),
        "communities": st.sampled_from(COMMUNITIES),
        "next_hop": st.binary(min_size=16, max_size=16),
        "at_ms": LONG,
    }
)


@given(st.lists(ROUTES, min_size=1, max_size=10))
def test_unions_and_arrays_are_encoded_as_the_wire_does(rows: list[dict]) -> None:
    texts = {name: primitives.text(name) for name in (*NAMES, *PATHS)}
    optional = {med: primitives.optional_long(med) for med in MEDS}
    arrays = {
        some: primitives.array([primitives.long(each) for each in some]) for some in COMMUNITIES
    }
    columns = {name: longs(rows, name) for name in ("peer_asn", "path_id", "as_path_len", "at_ms")}
    columns |= {name: fixed(rows, name) for name in ("prefix", "next_hop")}
    columns |= {name: coded(rows, name, texts) for name in ("site", "peer", "as_path")}
    columns |= {name: coded(rows, name, optional) for name in ("med", "local_pref")}
    columns["communities"] = coded(rows, "communities", arrays)
    columns["action"] = np.array([("ANNOUNCE", "WITHDRAW").index(row["action"]) for row in rows])
    expected = [encode_record("Route", {**row, "communities": list(row["communities"])})
                for row in rows]  # fmt: skip
    assert encode.encode_rows("Route", columns) == expected


@pytest.mark.parametrize("rows", [0, 1, 65_536, 65_537])
def test_rows_come_out_whole_at_the_edges_of_a_chunk(rows: int) -> None:
    columns = {
        "link": encode.texts(["up1", "port2"]).take(np.arange(rows) % 2),
        **{
            name: np.arange(rows, dtype=np.int64) * 1001
            for name in ("at_ms", "used_bps", "capacity_bps", "drops")
        },
    }
    encoded = encode.encode_rows("LinkSample", columns)
    assert len(encoded) == rows
    for at in {0, rows // 2, rows - 1} if rows else ():
        number = at * 1001
        record = {"link": ("up1", "port2")[at % 2], "at_ms": number, "used_bps": number}
        record |= {"capacity_bps": number, "drops": number}
        assert encoded[at] == encode_record("LinkSample", record)
