"""Chunks to columns: the frames' types, what is refused and why, and what damage costs."""

from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG
from pipeline.wire.columns import FEW, PIECE, decode_chunk
from pipeline.wire.decode import TOO_LARGE_BYTES
from pipeline.wire.encode import encode, encode_body, encode_confluent, encode_many
from pipeline.wire.plan import plan_of
from pipeline.wire.rows import OFFSET, TOMBSTONE, TopicRows
from schemas.registry import BY_NAME, INPUTS, TOPICS
from tests.records import random_record


def made(name: str, count: int, seed: int = 1) -> tuple[list[dict[str, Any]], list[bytes]]:
    rng = Random(seed)
    definition = CATALOG.current(name).definition
    records = [random_record(definition, rng) for _ in range(count)]
    return records, encode_many(name, records)


def chunk(topic: str, values: list[bytes | None], **more: Any) -> TopicRows:
    rows = decode_chunk(topic, values, np.arange(100, 100 + len(values)), **more)
    assert rows.count == len(values)
    return rows


def reasons(rows: TopicRows) -> dict[int, Refusal]:
    return {refused.offset - 100: refused.reason for refused in rows.refused}


def test_every_column_has_the_type_that_rows_promises() -> None:
    _, values = made("Route", 50)
    frame = chunk("bgp.routes", [*values]).frames["Route"]
    assert dict(frame.schema) == {
        "site": pl.String,
        "peer": pl.String,
        "peer_asn": pl.Int64,
        "prefix": pl.Binary,
        "path_id": pl.Int64,
        "action": pl.Enum(["ANNOUNCE", "WITHDRAW"]),
        "as_path": pl.String,
        "as_path_len": pl.Int32,
        "med": pl.Int64,
        "local_pref": pl.Int64,
        "communities": pl.List(pl.Int64),
        "next_hop": pl.Binary,
        "at_ms": pl.Int64,
        OFFSET: pl.Int64,
    }


@pytest.mark.parametrize("topic", [topic.name for topic in INPUTS])
@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 300])
def test_one_by_one_and_together_give_the_same_columns(topic: str, count: int) -> None:
    for name in BY_NAME[topic].records:
        records, values = made(name, count)
        frame = chunk(topic, [*values]).frames[name]
        single = chunk(topic, [*values[:1]]).frames[name]
        assert frame.schema == single.schema
        assert frame.drop(OFFSET).to_dicts() == records
        assert frame.get_column(OFFSET).to_list() == list(range(100, 100 + count))


def test_enum_codes_are_the_order_of_the_symbols() -> None:
    _, values = made("PlayEvent", 100)
    events = chunk("play.events", [*values]).frames["PlayEvent"].get_column("event")
    symbols = ["START", "HEARTBEAT", "BITRATE", "STALL", "STOP", "FAILOVER"]
    assert [symbols[code] for code in events.to_physical()] == events.to_list()


def test_all_input_records_are_read_natively() -> None:
    for topic in INPUTS:
        for name in topic.records:
            schema = CATALOG.current(name)
            assert plan_of(schema, schema).head, name


def test_each_kind_of_refusal_next_to_good_rows() -> None:
    _, values = made("PlayEvent", 20)
    good, health = values[0], made("Health", 1)[1][0]
    bad: dict[bytes | None, Refusal] = {
        b"": Refusal.NOT_FRAMED,
        b"\0\0\0\0\1" + good[10:]: Refusal.NOT_FRAMED,
        b"\xc3\x01" + bytes(8) + good[10:]: Refusal.UNKNOWN_FINGERPRINT,
        health: Refusal.UNEXPECTED_RECORD,
        good[:30]: Refusal.UNDECODABLE,
        good + b"\0": Refusal.TRAILING_BYTES,
        good + bytes(TOO_LARGE_BYTES): Refusal.TOO_LARGE,
        None: Refusal.MISSING_VALUE,
    }
    mixed: list[bytes | None] = []
    for value, damage in zip(values, [*bad] * 3, strict=False):
        mixed += [value, damage]
    rows = chunk("play.events", mixed)
    assert reasons(rows) == {place: bad[value] for place, value in enumerate(mixed) if value in bad}
    assert rows.frames["PlayEvent"].get_column(OFFSET).to_list() == list(range(100, 140, 2))


def test_a_topic_of_several_records_is_split_and_each_keeps_its_order() -> None:
    names = BY_NAME["bgp.routes"].records
    values = [made(names[n % 4], 1, seed=n)[1][0] for n in range(200)]
    rows = chunk("bgp.routes", [*values])
    assert list(rows.frames) == list(names)
    for n, name in enumerate(names):
        offsets = rows.frames[name].get_column(OFFSET).to_list()
        assert offsets == list(range(100 + n, 300, 4))


def test_tombstones_are_rows_where_the_topic_is_compacted() -> None:
    _, values = made("Site", 3)
    mixed = [values[0], None, values[1], None, None, values[2]]
    rows = chunk("fleet.inventory", mixed, keys=[b"a", b"site:x", b"b", b"", None, b"c"])
    assert rows.frames[TOMBSTONE].to_dicts() == [{"key": b"site:x", OFFSET: 101}]
    assert reasons(rows) == {3: Refusal.BAD_KEY, 4: Refusal.BAD_KEY}
    assert reasons(chunk("fleet.inventory", [None])) == {0: Refusal.BAD_KEY}


def test_an_empty_chunk_is_no_rows() -> None:
    assert chunk("play.events", []).frames == {}


def test_text_that_is_not_utf8_is_refused_alone() -> None:
    records, values = made("LinkSample", 3000)
    body = bytearray(encode("LinkSample", {**records[7], "link": "abc"}))
    body[11] = 0xFF
    values[7] = values[2000] = bytes(body)
    rows = chunk("traffic.links", [*values])
    assert reasons(rows) == {7: Refusal.UNDECODABLE, 2000: Refusal.UNDECODABLE}


def route(
    action: bytes = b"\0", length: bytes = b"\6", med: bytes = b"\2\10", communities: bytes = b"\0"
) -> bytes:
    """A Route put together by hand."""
    start = b"\6ams" + b"\2p" + b"\2" + bytes(17) + b"\0"
    body = start + action + b"\0" + length + med + b"\0" + communities + bytes(16) + b"\2"
    return CATALOG.current("Route").header + body


HUGE = b"\xff" * 9 + b"\1"


@pytest.mark.parametrize(
    "damaged",
    [
        route(action=b"\4"),
        route(action=b"\1"),
        route(action=b"\x82\x80\x80\x80\x40"),  # the index 2**32 + 1
        route(length=b"\xfe\xff\xff\xff\x7f"),
        route(length=b"\x86" + b"\x80" * 10 + b"\0"),
        route(med=b"\4\10"),
        route(med=b"\1\10"),
        route(med=b"\3"),
        route(communities=b"\xfe\xff\xff\xff\x0f\2"),
        route(communities=HUGE[:-1] + b"\x7f\2"),
    ],
)
def test_no_value_that_its_type_does_not_have_becomes_a_row(damaged: bytes) -> None:
    values = [route()] * 50 + [damaged] + [route()] * 50
    rows = chunk("bgp.routes", [*values])
    assert reasons(rows) == {50: Refusal.UNDECODABLE}
    assert rows.frames["Route"].height == 100
    assert rows.frames["Route"].get_column("at_ms").unique().to_list() == [1]


@pytest.mark.parametrize(
    ("communities", "items"),
    [
        (b"\3\4\2\4\0", [1, 2]),
        (b"\2\2\2\4\0", [1, 2]),
        (HUGE + b"\0" + b"\2\2\0", [1]),  # of the least number there is no opposite: no items
        (b"\x80\x80\0", []),
    ],
)
def test_unusual_but_readable_arrays_become_the_same_rows_either_way(
    communities: bytes, items: list[int]
) -> None:
    values = [route()] * 50 + [route(communities=communities)] + [route()] * 50
    for some in (values, values[50:51]):
        rows = chunk("bgp.routes", [*some])
        assert rows.frames["Route"].get_column("communities").to_list()[len(some) // 2] == items
    damaged = chunk("bgp.routes", [*values, b""])
    assert damaged.frames["Route"].height == 101


def test_confluent_framed_records_are_rows_when_ids_are_known() -> None:
    schema = CATALOG.current("PlayEvent")
    records, values = made("PlayEvent", 40)
    mixed = [
        encode_confluent("PlayEvent", record, 5) if n % 2 else value
        for n, (record, value) in enumerate(zip(records, values, strict=True))
    ]
    rows = chunk("play.events", [*mixed], resolver={5: schema}.get)
    assert rows.frames["PlayEvent"].drop(OFFSET).to_dicts() == records
    assert rows.frames["PlayEvent"].get_column(OFFSET).is_sorted()
    assert len(chunk("play.events", [*mixed]).refused) == 20


def test_records_that_are_not_read_natively_are_read_one_by_one() -> None:
    records, values = made("GroupEntry", 30)
    schema = CATALOG.current("GroupEntry")
    assert not plan_of(schema, schema).head
    rows = chunk("steering.groups", [*values])
    assert rows.frames["GroupEntry"].drop(OFFSET).to_dicts() == records


def test_every_topic_of_the_registry_can_be_read() -> None:
    for topic in TOPICS:
        for name in topic.records:
            records, values = made(name, 20)
            assert chunk(topic.name, [*values]).frames[name].drop(OFFSET).to_dicts() == records


def test_pieces_are_put_together_in_order() -> None:
    _, values = made("LinkSample", 100)
    many = (values * (PIECE // 40))[: 2 * PIECE + 17]
    many[PIECE + 3] = b"x"
    rows = chunk("traffic.links", [*many])
    assert reasons(rows) == {PIECE + 3: Refusal.NOT_FRAMED}
    frame = rows.frames["LinkSample"]
    assert frame.get_column(OFFSET).is_sorted()
    assert frame.get_column("drops").to_list()[-17:] == (
        chunk("traffic.links", [*many[-17:]]).frames["LinkSample"].get_column("drops").to_list()
    )


def test_damage_all_over_a_chunk_panics_the_native_reader_at_most_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, values = made("PlayEvent", 100)
    many = (values * (PIECE // 25))[: 4 * PIECE]
    damaged = [value[: 11 + n % 30] if n % 10 == 3 else value for n, value in enumerate(many)]
    rows = chunk("play.events", [*damaged])
    assert len(rows.refused) == sum(n % 10 == 3 for n in range(len(many)))
    assert capfd.readouterr().err.count("panicked at") <= 1


def test_a_bare_body_is_not_framed() -> None:
    record = made("LinkSample", 1)[0][0]
    rows = chunk("traffic.links", [encode_body("LinkSample", record)])
    assert reasons(rows) == {0: Refusal.NOT_FRAMED}
