"""Records to bytes: single-object encoding, and the Confluent framing for tools that want it."""

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

from fastavro import schemaless_writer

from pipeline.wire.catalog import CATALOG, Catalog

Mapped = Mapping[str, Any]


def encode_body(name: str, record: Mapped, catalog: Catalog = CATALOG) -> bytes:
    """The bare Avro body under the current schema of `name`. ValueError or TypeError where the
    record does not fit it: that is the publisher's own mistake."""
    buffer = BytesIO()
    schemaless_writer(buffer, catalog.current(name).parsed, record)
    return buffer.getvalue()


def encode(name: str, record: Mapped, catalog: Catalog = CATALOG) -> bytes:
    """One record in single-object encoding."""
    return catalog.current(name).header + encode_body(name, record, catalog)


def encode_many(name: str, records: Iterable[Mapped], catalog: Catalog = CATALOG) -> list[bytes]:
    """Many records of one name in single-object encoding; one buffer serves them all."""
    schema = catalog.current(name)
    header, parsed = schema.header, schema.parsed
    buffer = BytesIO()
    encoded = []
    for record in records:
        buffer.seek(0)
        buffer.truncate()
        buffer.write(header)
        schemaless_writer(buffer, parsed, record)
        encoded.append(buffer.getvalue())
    return encoded


def encode_confluent(
    name: str, record: Mapped, schema_id: int, catalog: Catalog = CATALOG
) -> bytes:
    """One record behind a zero byte and the 4-byte id that a schema registry gave its schema."""
    return b"\0" + schema_id.to_bytes(4, "big") + encode_body(name, record, catalog)
