"""Every schema ever published, by name and by fingerprint.

`schemas/*.avsc` are the current ones, `schemas/history/*.avsc` all that ever were. A writer is
known by the CRC-64-AVRO fingerprint of its schema's canonical form, little-endian as single-object
encoding carries it. Documentation and defaults are no part of that form: where two texts share a
fingerprint, the current one stands for both.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

import schemas

#: Single-object encoding: two bytes of mark, eight of fingerprint, then the body.
MARK = b"\xc3\x01"
HEADER_SIZE = 10


@dataclass(frozen=True, slots=True)
class Schema:
    """One version of one record. `fingerprint` has 8 bytes, `definition` is the JSON of the file,
    `parsed` is what fastavro takes."""

    name: str
    fingerprint: bytes
    definition: dict[str, Any] = field(repr=False, compare=False)
    parsed: dict[str, Any] = field(repr=False, compare=False)

    @property
    def header(self) -> bytes:
        """The 10 bytes in front of every body."""
        return MARK + self.fingerprint


def schema_of(definition: dict[str, Any]) -> Schema:
    """The schema that a definition (a record's JSON) stands for."""
    mark = fingerprint(to_parsing_canonical_form(definition), "CRC-64-AVRO")
    return Schema(definition["name"], bytes.fromhex(mark), definition, parse_schema(definition, {}))


class Catalog:
    """Schemas by name (the current one) and by fingerprint (every version of those records)."""

    def __init__(self, current: Iterable[Schema], history: Iterable[Schema] = ()) -> None:
        self._current = {schema.name: schema for schema in current}
        self._by_fingerprint = {
            schema.fingerprint: schema for schema in history if schema.name in self._current
        }
        self._by_fingerprint.update(
            (schema.fingerprint, schema) for schema in self._current.values()
        )

    @classmethod
    def load(cls, folder: Path) -> "Catalog":
        """Read `folder`/*.avsc as current and `folder`/history/*.avsc as history."""
        return cls(read_folder(folder), read_folder(folder / "history"))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the records that have a current schema, sorted."""
        return tuple(sorted(self._current))

    def current(self, name: str) -> Schema:
        """The schema that records of this name are written with; KeyError for no such record."""
        return self._current[name]

    def by_fingerprint(self, mark: bytes) -> Schema | None:
        """The schema (current or old) with this 8-byte fingerprint."""
        return self._by_fingerprint.get(mark)

    def versions(self, name: str) -> tuple[Schema, ...]:
        """Every known version of one record, sorted by fingerprint."""
        found = [schema for schema in self._by_fingerprint.values() if schema.name == name]
        return tuple(sorted(found, key=lambda schema: schema.fingerprint))


def read_folder(folder: Path) -> list[Schema]:
    """The schemas of the *.avsc files right in `folder`, by file name."""
    return [schema_of(json.loads(path.read_text())) for path in sorted(folder.glob("*.avsc"))]


#: Where the schemas lie, and what lies there.
FOLDER = Path(schemas.__file__).parent
CATALOG = Catalog.load(FOLDER)
