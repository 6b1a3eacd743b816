"""One record from bytes, strictly.

fastavro reads values but is lenient where a damaged record shows: a negative enum or union index
counts from the end, a varint may have any length, an int may hold 64 bits. So what it read is
written again, and where that gives other bytes than came (damage, or an encoder that splits arrays
into blocks) the walk in `strict` goes through the body by the rules and decides.
"""

from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from typing import Any

from fastavro import schemaless_reader, schemaless_writer

from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.wire.catalog import CATALOG, HEADER_SIZE, MARK, Catalog, Schema
from pipeline.wire.strict import Check, ints_check, walk

#: No record is longer than this: what a broker takes in one request unless told otherwise.
TOO_LARGE_BYTES = 1_048_576
CONFLUENT_MARK = b"\0"
CONFLUENT_HEADER_SIZE = 5

#: The schema behind an id of a schema registry; None where the registry knows none.
Resolver = Callable[[int], Schema | None]


def decode(
    data: bytes, resolver: Resolver | None = None, catalog: Catalog = CATALOG
) -> tuple[str, dict[str, Any]]:
    """(record name, fields under the current schema). WireError says what is wrong with `data`."""
    schema, start = split(data, resolver, catalog)
    return schema.name, decode_body(schema, data[start:], catalog)


def split(
    data: bytes, resolver: Resolver | None = None, catalog: Catalog = CATALOG
) -> tuple[Schema, int]:
    """(the writer's schema, where the body begins) by the framing of `data`."""
    if len(data) > TOO_LARGE_BYTES:
        raise WireError(Refusal.TOO_LARGE, f"{len(data)} bytes, at most {TOO_LARGE_BYTES}")
    if data.startswith(MARK) and len(data) >= HEADER_SIZE:
        schema = catalog.by_fingerprint(data[len(MARK) : HEADER_SIZE])
        if schema is None:
            raise WireError(Refusal.UNKNOWN_FINGERPRINT, data[len(MARK) : HEADER_SIZE].hex())
        return schema, HEADER_SIZE
    if resolver and data.startswith(CONFLUENT_MARK) and len(data) >= CONFLUENT_HEADER_SIZE:
        schema_id = int.from_bytes(data[1:CONFLUENT_HEADER_SIZE], "big")
        schema = resolver(schema_id)
        if schema is None:
            raise WireError(Refusal.UNKNOWN_FINGERPRINT, f"schema id {schema_id}")
        return schema, CONFLUENT_HEADER_SIZE
    raise WireError(
        Refusal.NOT_FRAMED, f"{len(data)} bytes, begins with {data[:4].hex() or 'nothing'}"
    )


def decode_body(schema: Schema, body: bytes, catalog: Catalog = CATALOG) -> dict[str, Any]:
    """The record that `schema` wrote as `body`, under the current schema of its name."""
    record = _read(schema, body)
    current = catalog.current(schema.name)
    if schema.fingerprint == current.fingerprint:
        return record
    try:
        resolved: dict[str, Any] = schemaless_reader(BytesIO(body), schema.parsed, current.parsed)
    except Exception as error:
        raise WireError(Refusal.UNDECODABLE, f"as {schema.name} of today: {error}") from None
    return resolved


def _read(schema: Schema, body: bytes) -> dict[str, Any]:
    buffer = BytesIO(body)
    try:
        record: dict[str, Any] = schemaless_reader(buffer, schema.parsed, None)
    except Exception as error:
        walk(schema.definition, body)  # says where
        raise WireError(Refusal.UNDECODABLE, f"{type(error).__name__} {error}".strip()) from None
    again = BytesIO()
    schemaless_writer(again, schema.parsed, record)
    ints_fit = _ints_check(schema)
    if again.getvalue() != body or (ints_fit and not ints_fit(record)):
        walk(schema.definition, body)
    return record


@lru_cache(maxsize=256)
def _ints_check(schema: Schema) -> Check | None:
    return ints_check(schema.definition)
