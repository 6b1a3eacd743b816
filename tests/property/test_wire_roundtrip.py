"""What is written is read again, for every schema that the registry lets travel."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.wire.catalog import CATALOG
from pipeline.wire.columns import decode_chunk
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode, encode_many
from pipeline.wire.plan import plan_of
from pipeline.wire.rows import OFFSET
from pipeline.wire.sieve import sound
from schemas.registry import TOPICS
from tests.records import record_strategy

TRAVELLING = [(topic.name, name) for topic in TOPICS for name in topic.records]


@pytest.mark.parametrize(("topic", "name"), TRAVELLING)
@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_records_survive_the_wire(topic: str, name: str, data: st.DataObject) -> None:
    strategy = record_strategy(CATALOG.current(name).definition)
    records = data.draw(st.lists(strategy, min_size=1, max_size=12))
    values = encode_many(name, records)
    assert values == [encode(name, record) for record in records]
    assert [decode(value) for value in values] == [(name, record) for record in records]
    rows = decode_chunk(topic, values, np.arange(len(values)))
    assert rows.refused == []
    assert rows.frames[name].drop(OFFSET).to_dicts() == records


@given(st.integers(0, (1 << 64) - 1))
def test_every_bit_of_a_double_survives(bits: int) -> None:
    """NaN among them, of which there are many."""
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    record = {"region": "eu", "name": "", "lat": value, "lon": 0.0}
    rows = decode_chunk("fleet.inventory", [encode("Region", record)] * 20, np.arange(20))
    read = rows.frames["Region"].get_column("lat").to_numpy().view(np.uint64)
    assert set(read.tolist()) == {bits}


@pytest.mark.parametrize(("topic", "name"), TRAVELLING)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_sieve_lets_every_right_record_through(
    topic: str, name: str, data: st.DataObject
) -> None:
    schema = CATALOG.current(name)
    strategy = record_strategy(schema.definition)
    bodies: list[Any] = [
        value[10:] for value in encode_many(name, data.draw(st.lists(strategy, max_size=9)))
    ]
    sizes = np.array([len(body) for body in bodies], dtype=np.int64)
    ends = np.cumsum(sizes)
    assert sound(plan_of(schema, schema).types, b"".join(bodies), ends - sizes, ends).all()
