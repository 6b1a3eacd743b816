"""Every schema ever published stays, unaltered, and old and new versions read each other."""

import copy
import json
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG, FOLDER, Catalog, Schema, schema_of
from pipeline.wire.columns import decode_chunk
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode_many
from pipeline.wire.plan import plan_of
from pipeline.wire.rows import OFFSET
from schemas.freeze import freeze, history_name
from schemas.registry import TOPICS
from tests.records import random_record

HISTORY = sorted((FOLDER / "history").glob("*.avsc"))
TOPIC_OF = {name: topic.name for topic in TOPICS for name in topic.records}


def crossing(writer: Schema, reader: Schema) -> list[dict[str, Any]]:
    """Records of `writer` as a catalog reads them in which `reader` is current; columns and single
    records must agree."""
    rng = Random(3)
    records = [random_record(writer.definition, rng) for _ in range(40)]
    values = encode_many(writer.name, records, Catalog([writer]))
    catalog = Catalog([reader], [writer])
    rows = decode_chunk(TOPIC_OF[writer.name], values, np.arange(len(values)), catalog=catalog)
    assert not rows.refused
    read = rows.frames[writer.name].drop(OFFSET)
    assert read.schema == plan_of(reader, reader).from_records([]).schema
    assert read.to_dicts() == [decode(value, catalog=catalog)[1] for value in values]
    for before, after in zip(records, read.to_dicts(), strict=True):
        assert {k: v for k, v in after.items() if k in before} == {
            k: v for k, v in before.items() if k in after
        }
    return read.to_dicts()


def test_every_record_that_travels_has_a_schema() -> None:
    assert tuple(sorted(TOPIC_OF)) == CATALOG.names


def test_every_current_schema_is_in_the_history() -> None:
    """If this fails: `python -m schemas.freeze`, and commit what it adds."""
    current = {history_name(CATALOG.current(name).definition) for name in CATALOG.names}
    assert current <= {path.name for path in HISTORY}


@pytest.mark.parametrize("path", HISTORY, ids=lambda path: path.stem)
def test_nothing_in_the_history_was_altered(path: Path) -> None:
    assert history_name(json.loads(path.read_text())) == path.name


@pytest.mark.parametrize("name", CATALOG.names)
def test_old_and_new_read_each_other(name: str) -> None:
    for writer, reader in product(CATALOG.versions(name), repeat=2):
        crossing(writer, reader)


def evolved(name: str, *added: dict[str, Any]) -> Schema:
    definition = copy.deepcopy(CATALOG.current(name).definition)
    definition["fields"][1:1] = added
    return schema_of(definition)


LATER = (
    {"name": "lane", "type": "long", "default": 7},
    {"name": "note", "type": "string", "default": "none"},
    {"name": "maybe", "type": ["null", "long"], "default": None},
    {"name": "mode", "type": {"type": "enum", "name": "M", "symbols": ["A", "B"]}, "default": "B"},
    {"name": "tags", "type": {"type": "array", "items": "string"}, "default": ["x"]},
)


@pytest.mark.parametrize("name", ["PlayEvent", "Health", "Route", "Appliance", "GroupEntry"])
def test_a_version_with_more_fields_and_the_present_one_read_each_other(name: str) -> None:
    old, new = CATALOG.current(name), evolved(name, *LATER)
    assert old.fingerprint != new.fingerprint
    for record in crossing(old, new):
        assert [record[field["name"]] for field in LATER] == [7, "none", None, "B", ["x"]]
    assert all("lane" not in record for record in crossing(new, old))


def test_both_versions_in_one_chunk_become_one_frame_in_order() -> None:
    old, new = CATALOG.current("PlayEvent"), evolved("PlayEvent", *LATER)
    rng = Random(4)
    values = []
    for _ in range(300):
        version = rng.choice((old, new))
        record = random_record(version.definition, rng)
        values += encode_many("PlayEvent", [record], Catalog([version]))
    damaged = {5: values[5][:20], 250: values[250] + b"\0"}
    values = [damaged.get(n, value) for n, value in enumerate(values)]
    catalog = Catalog([new], [old])
    rows = decode_chunk("play.events", values, np.arange(300), catalog=catalog)
    frame = rows.frames["PlayEvent"]
    assert frame.get_column(OFFSET).to_list() == [n for n in range(300) if n not in damaged]
    single = [
        decode(value, catalog=catalog)[1] for n, value in enumerate(values) if n not in damaged
    ]
    assert frame.drop(OFFSET).to_dicts() == single
    assert [refused.offset for refused in rows.refused] == [5, 250]


def test_a_field_whose_type_grew_is_read_by_the_rules_of_avro() -> None:
    now = CATALOG.current("LinkSample")
    before = copy.deepcopy(now.definition)
    before["fields"][4]["type"] = "int"
    records = crossing(schema_of(before), now)
    assert all(-(1 << 31) <= record["drops"] < 1 << 31 for record in records)


def test_a_symbol_that_is_no_more_is_refused() -> None:
    now = CATALOG.current("Health")
    before = copy.deepcopy(now.definition)
    before["fields"][2]["type"]["symbols"].append("ASLEEP")
    writer = schema_of(before)
    record = {**random_record(before, Random(1)), "service": "ASLEEP"}
    values = encode_many("Health", [record], Catalog([writer]))
    catalog = Catalog([now], [writer])
    rows = decode_chunk("appliance.health", values, np.arange(1), catalog=catalog)
    assert [refused.reason for refused in rows.refused] == [Refusal.UNDECODABLE]


def test_a_record_that_is_no_more_is_unknown() -> None:
    gone = schema_of({"type": "record", "name": "Gone", "fields": []})
    catalog = Catalog([CATALOG.current("Health")], [gone])
    with pytest.raises(WireError) as caught:
        decode(gone.header, catalog=catalog)
    assert caught.value.reason is Refusal.UNKNOWN_FINGERPRINT


def test_freezing_adds_what_is_new_and_never_touches_what_is_there(tmp_path: Path) -> None:
    source = FOLDER / "config.avsc"
    (tmp_path / "config.avsc").write_text(source.read_text())
    first = freeze(tmp_path)
    assert [path.name for path in first] == [history_name(json.loads(source.read_text()))]
    assert freeze(tmp_path) == []
    changed = json.loads(source.read_text())
    changed["fields"].append({"name": "origin", "type": "string", "default": ""})
    (tmp_path / "config.avsc").write_text(json.dumps(changed))
    kept = first[0].read_text()
    assert len(freeze(tmp_path)) == 1
    assert first[0].read_text() == kept
    assert len(Catalog.load(tmp_path).versions("Config")) == 2


def test_an_empty_batch_has_the_columns_all_the_same() -> None:
    schema = CATALOG.current("Route")
    assert isinstance(plan_of(schema, schema).from_records([]), pl.DataFrame)
