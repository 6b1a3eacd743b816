"""One record: framings, and every way in which it can be wrong."""

from io import BytesIO
from typing import Any

import pytest
from fastavro import schemaless_reader

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG, schema_of
from pipeline.wire.decode import TOO_LARGE_BYTES, decode
from pipeline.wire.encode import encode, encode_body, encode_confluent, encode_many
from pipeline.wire.strict import walk

LINK: dict[str, Any] = {
    "link": "ams-1",
    "at_ms": 1_800_000_000_000,
    "used_bps": 7,
    "capacity_bps": 100,
    "drops": 0,
}
ROUTE: dict[str, Any] = {
    "site": "ams",
    "peer": "192.0.2.1",
    "peer_asn": 64500,
    "prefix": bytes(17),
    "path_id": 0,
    "action": "ANNOUNCE",
    "as_path": "1 2",
    "as_path_len": 2,
    "med": 5,
    "local_pref": None,
    "communities": [1],
    "next_hop": bytes(16),
    "at_ms": 1,
}


def refusal(data: bytes) -> Refusal:
    with pytest.raises(WireError) as caught:
        decode(data)
    return caught.value.reason


def damaged(body: bytes) -> tuple[Refusal, str]:
    with pytest.raises(WireError) as caught:
        decode(CATALOG.current("Route").header + body)
    return caught.value.reason, caught.value.detail


def test_the_fingerprint_is_that_of_the_avro_specification() -> None:
    """The specification's CRC-64-AVRO, computed here by its own pseudo code."""
    empty = 0xC15D213AA4D7A795
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
        table.append(value)
    canonical = (
        b'{"name":"edgesteer.Config","type":"record","fields":'
        b'[{"name":"hash","type":"string"},{"name":"config","type":"string"}]}'
    )
    mark = empty
    for byte in canonical:
        mark = (mark >> 8) ^ table[(mark ^ byte) & 0xFF]
    assert CATALOG.current("Config").fingerprint == mark.to_bytes(8, "little")


def test_single_object_encoding_and_back() -> None:
    data = encode("LinkSample", LINK)
    assert data[:2] == b"\xc3\x01"
    assert data[10:] == encode_body("LinkSample", LINK)
    assert decode(data) == ("LinkSample", LINK)


def test_many_are_encoded_as_one_by_one() -> None:
    records = [{**LINK, "drops": n, "link": "x" * n} for n in (90, 3, 70_000, 0)]
    assert encode_many("LinkSample", records) == [encode("LinkSample", r) for r in records]


def test_confluent_framing_needs_a_resolver() -> None:
    data = encode_confluent("LinkSample", LINK, 7)
    schema = CATALOG.current("LinkSample")
    assert data[:5] == b"\0\0\0\0\x07"
    assert decode(data, {7: schema}.get) == ("LinkSample", LINK)
    assert refusal(data) is Refusal.NOT_FRAMED
    with pytest.raises(WireError) as caught:
        decode(data, {8: schema}.get)
    assert caught.value.reason is Refusal.UNKNOWN_FINGERPRINT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Refusal.NOT_FRAMED),
        (b"\xc3\x01", Refusal.NOT_FRAMED),
        (b"{}", Refusal.NOT_FRAMED),
        (b"\xc3\x01" + b"12345678", Refusal.UNKNOWN_FINGERPRINT),
        (encode("LinkSample", LINK)[:-1], Refusal.UNDECODABLE),
        (encode("LinkSample", LINK)[:10], Refusal.UNDECODABLE),
        (encode("LinkSample", LINK) + b"\0", Refusal.TRAILING_BYTES),
        (encode("LinkSample", LINK) + bytes(TOO_LARGE_BYTES), Refusal.TOO_LARGE),
    ],
)
def test_each_damage_has_its_reason(data: bytes, reason: Refusal) -> None:
    assert refusal(data) is reason


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        (b"\x06ams", b"\x05ams", "site: -3 bytes wanted"),
        (b"\x06ams", b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7fams", "site"),
        (b"\x06ams", b"\x06a\xff\xfe", "site: text that is not UTF-8"),
        (b"\x06ams", b"\x86" + b"\x80" * 10 + b"\0ams", "site: a number of more than ten bytes"),
        (b"\x00\x061 2\x04", b"\x04\x061 2\x04", "action: symbol 2 of 2"),
        (b"\x00\x061 2\x04", b"\x01\x061 2\x04", "action: symbol -1 of 2"),
        (b"1 2\x04", b"1 2\xfe\xff\xff\xff\x7f", "as_path_len: a number of more than 32 bits"),
        (b"\x04\x02\x0a\x00", b"\x04\x04\x0a\x00", "med: branch 2 of 2"),
        (b"\x04\x02\x0a\x00", b"\x04\x01\x0a\x00", "med: branch -1 of 2"),
        (b"\x00\x02\x02\x00", b"\x00\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\x02\x00", ""),
    ],
)
def test_what_fastavro_lets_pass_is_refused_and_located(old: bytes, new: bytes, where: str) -> None:
    body = encode_body("Route", ROUTE)
    assert body.count(old) == 1
    reason, detail = damaged(body.replace(old, new))
    assert reason is Refusal.UNDECODABLE
    assert where in detail


@pytest.mark.parametrize("block", [b"\x01\x02\x02\x00", b"\x02\x02\x01\x02\x04\x00"])
def test_arrays_in_sized_or_several_blocks_are_read(block: bytes) -> None:
    body = encode_body("Route", ROUTE).replace(b"\x00\x02\x02\x00", b"\x00" + block)
    _, record = decode(CATALOG.current("Route").header + body)
    assert record["communities"] in ([1], [1, 2])


def test_the_walk_knows_every_kind_of_type() -> None:
    everything = schema_of(
        {
            "type": "record",
            "name": "Everything",
            "namespace": "edgesteer",
            "fields": [
                {"name": "nothing", "type": "null"},
                {"name": "flag", "type": "boolean"},
                {"name": "single", "type": "float"},
                {"name": "raw", "type": {"type": "bytes"}},
                {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A"]}},
                {"name": "again", "type": "edgesteer.K"},
                {
                    "name": "inner",
                    "type": {
                        "type": "record",
                        "name": "I",
                        "fields": [{"name": "kinds", "type": {"type": "array", "items": "K"}}],
                    },
                },
            ],
        }
    )
    body = b"\x01" + bytes(4) + b"\x04ab" + b"\x00" + b"\x00" + b"\x04\x00\x00\x00"
    schemaless_reader(BytesIO(body), everything.parsed, None)
    walk(everything.definition, body)
    for at, byte in ((0, 2), (8, 2), (9, 1)):
        broken = bytearray(body)
        broken[at] = byte
        with pytest.raises(WireError):
            walk(everything.definition, bytes(broken))
    with pytest.raises(WireError, match=r"inner\.kinds: symbol"):
        walk(everything.definition, body[:-3] + b"\x02\x00\x00")
