"""How the records of one schema become columns: what the native reader is told, and what is made
of it.

polars reads Avro containers fast, but not every type and not every damage: it panics on enums
inside arrays, takes an enum index modulo 2**32, cuts an int to 32 bits and takes any byte but 1
for false. So enums, ints and booleans are read as what they are on the wire, a zigzag number, and
turned into their columns after a check of their range (true is the byte 1, which as a number is
-1). Which schemas are read natively is decided here, by the schema, never by trying.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.wire.catalog import Schema

MARK_COLUMN, PRINT_COLUMN, GUARD_COLUMN = "_mark", "_print", "_guard"
#: The mark C3 01 read as a zigzag number.
MARK_VALUE = -98
SYNC = b"edgesteer wire\r\n"

_DTYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "bytes": pl.Binary(),
    "long": pl.Int64(),
    "int": pl.Int32(),
    "double": pl.Float64(),
    "float": pl.Float32(),
    "boolean": pl.Boolean(),
    "null": pl.Null(),
}
#: Read as they are.
_PLAIN = frozenset({"string", "bytes", "long", "double"})
#: Read as long; the values that are right.
_RANGES = {"int": (-(1 << 31), (1 << 31) - 1), "boolean": (-1, 0)}

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Kind:
    """An Avro type with its names looked up. `scalar` is its type, or that of its items or of the
    branch beside null; `dtype` is that of its column (see rows.py). `range`: the least and greatest
    right value where it is read as long; None where any will do. `symbols` of an enum, as such."""

    scalar: Any
    is_list: bool
    nullable: bool
    dtype: pl.DataType = field(compare=False)
    range: tuple[int, int] | None = field(compare=False)
    symbols: pl.Series | None = field(compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """How records of `writer` become columns of `current`. `types` are the writer's fields, those
    up to the last union `screened`. `head` is the container up to its first block; empty where the
    native reader cannot read this schema."""

    writer: Schema
    current: Schema
    kinds: dict[str, Kind]
    defaults: dict[str, pl.Series]
    types: tuple[Any, ...]
    screened: tuple[Any, ...]
    head: bytes

    @property
    def key(self) -> tuple[str, bytes]:
        """What tells plans of one catalog apart."""
        return self.writer.name, self.writer.fingerprint

    def out_of_range(self, frame: pl.DataFrame) -> Mask | None:
        """Rows that hold a value their type does not have; None where there are none."""
        found: Mask | None = None
        for name, kind in self.kinds.items():
            if kind.range is None or name in self.defaults:
                continue
            series = frame.get_column(name)
            bad = _outside(series, kind, *kind.range)
            if bad is not None:
                found = bad if found is None else found | bad
        return found

    def finish(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The columns of the current schema, from what the native reader read."""
        return pl.DataFrame(
            [
                self.defaults[name].new_from_index(0, frame.height)
                if name in self.defaults
                else _finish(frame.get_column(name), kind)
                for name, kind in self.kinds.items()
            ]
        )

    def from_records(self, records: list[dict[str, Any]]) -> pl.DataFrame:
        """The same columns from records that were read one by one."""
        return pl.DataFrame(
            [
                pl.Series(name, [record[name] for record in records], dtype=kind.dtype)
                for name, kind in self.kinds.items()
            ]
        )


def plan_of(writer: Schema, current: Schema) -> Plan:
    """The plan for records of `writer`, to be read as `current` (another version of the same)."""
    kinds = {name: kind_of(kind) for name, kind in _fields(current)}
    types = dict(_fields(writer))
    written = {name: kind_of(kind) for name, kind in types.items()}
    unions = [place for place, kind in enumerate(written.values(), 1) if kind.nullable]
    screened = tuple(types.values())[: max(unions, default=0)]
    defaults = {
        item["name"]: pl.Series(item["name"], [item["default"]], dtype=kinds[item["name"]].dtype)
        for item in current.definition["fields"]
        if item["name"] not in written and "default" in item
    }
    same = all(name in defaults or written.get(name) == kind for name, kind in kinds.items())
    names = (f"T{number}" for number in count())
    fields = [(name, _native(kind, names)) for name, kind in written.items()]
    head = _head(fields) if same and all(kind is not None for _, kind in fields) else b""
    return Plan(writer, current, kinds, defaults, tuple(types.values()), screened, head)


def zigzag(number: int) -> bytes:
    """A non-negative number as Avro writes it."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def kind_of(definition: Any) -> Kind:
    """The Kind of a type as `_fields` gives it."""
    nullable = isinstance(definition, list) and len(definition) == 2 and definition[0] == "null"
    inner = definition[1] if nullable else definition
    is_list = isinstance(inner, dict) and inner["type"] == "array"
    scalar = inner["items"] if is_list else inner
    dtype = _dtype(scalar)
    limits, symbols = None, None
    if isinstance(dtype, pl.Enum):
        symbols = pl.Series(scalar["symbols"], dtype=dtype)
        limits = (0, len(symbols) - 1)
    elif isinstance(scalar, str):
        limits = _RANGES.get(scalar)
    return Kind(scalar, is_list, nullable, pl.List(dtype) if is_list else dtype, limits, symbols)


def _fields(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Field names and types, every reference to a named type replaced by what it names and all that
    does not matter for reading left out."""
    named: dict[str, Any] = {}

    def expand(kind: Any) -> Any:
        if isinstance(kind, str):
            return named.get(kind.rpartition(".")[2], kind)
        if isinstance(kind, list):
            return [expand(branch) for branch in kind]
        name = kind["type"]
        if name == "array":
            return {"type": "array", "items": expand(kind["items"])}
        if name == "record":
            inner = [{"name": f["name"], "type": expand(f["type"])} for f in kind["fields"]]
            named[kind["name"]] = {"type": "record", "fields": inner}
        elif name == "enum":
            named[kind["name"]] = {"type": "enum", "symbols": kind["symbols"]}
        elif name == "fixed":
            named[kind["name"]] = {"type": "fixed", "size": kind["size"]}
        else:
            return expand(name)
        return named[kind["name"]]

    for item in schema.definition["fields"]:
        yield item["name"], expand(item["type"])


def _dtype(scalar: Any) -> pl.DataType:
    if isinstance(scalar, str):
        return _DTYPES[scalar]
    kind = scalar["type"]
    if kind == "enum":
        return pl.Enum(scalar["symbols"])
    if kind == "fixed":
        return pl.Binary()
    return pl.Struct({f["name"]: kind_of(f["type"]).dtype for f in scalar["fields"]})


def _native(kind: Kind, names: Iterator[str]) -> Any:
    """The type the native reader is told; None where it cannot."""
    scalar = kind.scalar
    told: Any = None
    if isinstance(scalar, str):
        told = scalar if scalar in _PLAIN else "long" if scalar in _RANGES else None
    elif isinstance(scalar, dict) and scalar["type"] == "enum":
        told = "long"
    elif isinstance(scalar, dict) and scalar["type"] == "fixed" and scalar["size"]:
        told = {"type": "fixed", "name": next(names), "size": scalar["size"]}
    elif isinstance(scalar, dict) and scalar["type"] == "record" and kind.is_list:
        told = _native_record(scalar, names)
    if told is None or (kind.nullable and kind.is_list):
        return None
    if kind.is_list:
        return {"type": "array", "items": told}
    return ["null", told] if kind.nullable else told


def _native_record(record: dict[str, Any], names: Iterator[str]) -> Any:
    """A record inside an array: only of types that need no check afterwards."""
    inner = []
    for item in record["fields"]:
        kind = kind_of(item["type"])
        told = _native(kind, names)
        if told is None or kind.range or kind.is_list or kind.nullable:
            return None
        inner.append({"name": item["name"], "type": told})
    return {"type": "record", "name": next(names), "fields": inner} if inner else None


def _head(fields: Iterable[tuple[str, Any]]) -> bytes:
    framed = (
        (MARK_COLUMN, "long"),
        (PRINT_COLUMN, "double"),
        *fields,
        (GUARD_COLUMN, "double"),
    )
    told = [{"name": name, "type": kind} for name, kind in framed]
    schema = json.dumps({"type": "record", "name": "Guarded", "fields": told}).encode()
    key = b"avro.schema"
    return b"".join(
        (b"Obj\x01", zigzag(1), zigzag(len(key)), key, zigzag(len(schema)), schema, b"\0", SYNC)
    )


def _outside(series: pl.Series, kind: Kind, least: int, greatest: int) -> Mask | None:
    low, high = (series.list.min(), series.list.max()) if kind.is_list else (series, series)
    lowest, highest = low.min(), high.max()
    if lowest is None or (lowest >= least and highest <= greatest):  # type: ignore[operator]
        return None
    bad: Mask = ((low < least) | (high > greatest)).fill_null(value=False).to_numpy()
    return bad


def _finish(series: pl.Series, kind: Kind) -> pl.Series:
    if kind.range is None:
        return series
    if kind.is_list:
        item = pl.element()
        if kind.symbols is not None:
            return series.list.eval(item.cat.to(kind.symbols.dtype))
        return series.list.eval(item != 0) if kind.scalar == "boolean" else series.cast(kind.dtype)
    if kind.symbols is not None:
        return kind.symbols[series].alias(series.name)
    return series != 0 if kind.scalar == "boolean" else series.cast(kind.dtype)
