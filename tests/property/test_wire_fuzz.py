"""Damaged records by the hundred thousand, held against fastavro reading them one by one.

For each record of a chunk: what fastavro cannot read, or not to its end, is refused; what it reads
and would write in the same way is a row with the same values; and what it reads but would write
otherwise (it is lenient with indexes, counts and numbers) is that row or refused, and `decode`
says which.
"""

import struct
from collections import Counter
from io import BytesIO
from random import Random
from typing import Any

import numpy as np
import pytest
from fastavro import schemaless_reader, schemaless_writer
from fastavro.validation import validate

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG
from pipeline.wire.columns import decode_chunk
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode_many
from pipeline.wire.plan import plan_of
from pipeline.wire.rows import OFFSET
from pipeline.wire.sieve import sound
from pipeline.wire.strict import walk
from schemas.registry import BY_NAME, INPUTS, TOPICS
from tests.records import random_record

MUTATED_MIN = 100_000
SHARE_MUTATED = (0.002, 0.2, 0.95)


def flip(value: bytes, other: bytes, rng: Random) -> bytes:
    damaged = bytearray(value)
    for _ in range(rng.choice((1, 1, 2, 5))):
        damaged[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flip_body(value: bytes, other: bytes, rng: Random) -> bytes:
    damaged = bytearray(value)
    byte = rng.choice((0, 1, 3, 127, 128, 255, rng.getrandbits(8)))
    damaged[rng.randrange(10, len(value))] = byte
    return bytes(damaged)


def truncate(value: bytes, other: bytes, rng: Random) -> bytes:
    return value[: rng.randrange(len(value))]


def splice(value: bytes, other: bytes, rng: Random) -> bytes:
    return value[: rng.randrange(10, len(value))] + other[rng.randrange(len(other)) :]


def insert(value: bytes, other: bytes, rng: Random) -> bytes:
    place = rng.randrange(10, len(value) + 1)
    what = rng.choice(
        (rng.randbytes(rng.randrange(1, 12)), b"\xff" * 10, b"\x80" * 9, b"\0", other)
    )
    return value[:place] + what + value[place:]


def remove(value: bytes, other: bytes, rng: Random) -> bytes:
    place = rng.randrange(10, len(value))
    return value[:place] + value[place + rng.randrange(1, 9) :]


MUTATIONS = (flip, flip_body, flip_body, truncate, splice, insert, remove)


def exact(value: Any) -> Any:
    """The same for equal values only, NaN equal to itself."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return {key: exact(inner) for key, inner in value.items()}
    return [exact(inner) for inner in value] if isinstance(value, list) else value


def lenient(value: bytes) -> tuple[str, Any, bool] | None:
    """(name, record, whether it fits the schema and would be written in the same way); None where
    fastavro gives up."""
    schema = CATALOG.by_fingerprint(value[2:10]) if value[:2] == b"\xc3\x01" else None
    if schema is None:
        return None
    buffer = BytesIO(value[10:])
    try:
        record: Any = schemaless_reader(buffer, schema.parsed, None)
    except (EOFError, IndexError, ValueError):
        return None
    if buffer.tell() != len(value) - 10:
        return None
    again = BytesIO()
    schemaless_writer(again, schema.parsed, record)
    same = again.getvalue() == value[10:]
    return schema.name, record, same and validate(record, schema.parsed, raise_errors=False)


def check(topic: str, values: list[bytes], tally: Counter[str]) -> None:
    offsets = np.arange(7, 7 + 3 * len(values), 3)
    rows = decode_chunk(topic, values, offsets)
    assert rows.count == len(values)  # L3
    read: dict[int, tuple[str, Any]] = {}
    for name, frame in rows.frames.items():
        assert frame.get_column(OFFSET).is_sorted()
        for record in frame.to_dicts():
            read[record.pop(OFFSET)] = name, record
    refused = {letter.offset: letter.reason for letter in rows.refused}
    assert len(read) + len(refused) == len(values)
    for at, value in zip(offsets.tolist(), values, strict=True):
        verdict = lenient(value)
        if verdict is None or verdict[0] not in BY_NAME[topic].records:
            assert at in refused
            tally["refused as by fastavro"] += 1
        elif at in read:
            assert read[at][0] == verdict[0]
            assert exact(read[at][1]) == exact(verdict[1])
            tally["row"] += 1
        else:
            assert not verdict[2]
            tally["refused more strictly"] += 1
        if at in refused and refused[at] is not Refusal.UNEXPECTED_RECORD:
            with pytest.raises(WireError) as caught:
                decode(value)
            assert caught.value.reason is refused[at]


@pytest.mark.slow
def test_l3_damaged_records_neither_raise_nor_get_lost_nor_shift_a_neighbour() -> None:
    rng = Random(20_26)
    names = [(topic, name) for topic in TOPICS for name in topic.records]
    pool = {
        name: encode_many(
            name, [random_record(CATALOG.current(name).definition, rng) for _ in range(200)]
        )
        for _, name in names
    }
    tally: Counter[str] = Counter()
    mutated = 0
    while mutated < MUTATED_MIN:
        for topic, name in names:
            share = rng.choice(SHARE_MUTATED)
            values = rng.choices(pool[name], k=400 if topic in INPUTS else 100)
            for place, value in enumerate(values):
                if rng.random() < share:
                    other = rng.choice(pool[rng.choice((name, rng.choice(names)[1]))])
                    values[place] = rng.choice(MUTATIONS)(value, other, rng)
                    mutated += 1
            check(topic.name, values, tally)
    assert tally["refused as by fastavro"] > MUTATED_MIN // 2
    assert tally["refused more strictly"] > 100
    assert tally["row"] > MUTATED_MIN


@pytest.mark.slow
def test_the_sieve_passes_no_structure_that_the_walk_refuses() -> None:
    rng = Random(7)
    for topic in INPUTS:
        for name in topic.records:
            schema = CATALOG.current(name)
            types = plan_of(schema, schema).types
            pool = encode_many(name, [random_record(schema.definition, rng) for _ in range(50)])
            bodies = [
                rng.choice(MUTATIONS)(rng.choice(pool), rng.choice(pool), rng)[10:]
                for _ in range(1500)
            ]
            sizes = np.array([len(body) for body in bodies], dtype=np.int64)
            ends = np.cumsum(sizes)
            fine = sound(types, b"".join(bodies), ends - sizes, ends)
            for body, passed in zip(bodies, fine.tolist(), strict=True):
                try:
                    walk(schema.definition, body)
                except WireError as error:
                    assert not passed or "UTF-8" in error.detail, (name, body, error)
