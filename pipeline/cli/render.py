"""Records as a person and a script read them: addresses, prefixes and ids as text.

Fixed-size fields are told by their schema name (Address, Prefix, GroupId); bytes of no kind are
shown as hexadecimal. What does not decode is shown as that, with the reason and its bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pipeline.errors import WireError
from pipeline.wire.address import PREFIX_SIZE, format_address, format_prefix
from pipeline.wire.catalog import CATALOG
from pipeline.wire.decode import decode
from schemas.registry import STEERING_GROUPS, STEERING_PREFIXES

TOMBSTONE = "tombstone"
UNDECODABLE = "undecodable"
_GROUP_SIZE = 8

_FIXED: dict[str, Callable[[bytes], str]] = {
    "Address": format_address,
    "Prefix": format_prefix,
    "GroupId": bytes.hex,
}


def plain(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A decoded record with JSON values only."""
    shown: dict[str, Any] = _walk(CATALOG.current(name).definition, record, {})
    return shown


def _walk(schema: Any, value: Any, named: dict[str, Any]) -> Any:
    if isinstance(schema, str):
        schema = named.get(schema, schema)
    if isinstance(schema, list):
        return (
            None if value is None else _walk(next(s for s in schema if s != "null"), value, named)
        )
    if not isinstance(schema, dict):
        return value.hex() if isinstance(value, bytes) else value
    if "name" in schema:
        named[schema["name"]] = schema
    kind = schema["type"]
    if kind == "record":
        return {
            field["name"]: _walk(field["type"], value[field["name"]], named)
            for field in schema["fields"]
        }
    if kind == "array":
        return [_walk(schema["items"], each, named) for each in value]
    if kind == "fixed":
        return _FIXED.get(schema["name"], bytes.hex)(value)
    return value if kind == "enum" else _walk(kind, value, named)


def show_key(topic: str, key: bytes | None) -> str | None:
    """A record's key as text: table keys taken apart, others as they are, hexadecimal at worst."""
    if key is None:
        return None
    if topic == STEERING_PREFIXES.name and len(key) > PREFIX_SIZE:
        return f"{format_prefix(key[:PREFIX_SIZE])} {key[PREFIX_SIZE:].decode(errors='replace')}"
    if topic == STEERING_GROUPS.name and len(key) > _GROUP_SIZE:
        return f"{key[:_GROUP_SIZE].hex()} {key[_GROUP_SIZE:].decode(errors='replace')}"
    text = key.decode(errors="replace")
    return text if text.isprintable() and "\ufffd" not in text else key.hex()


def show_value(value: bytes | None) -> tuple[str, dict[str, Any] | None]:
    """(record name, fields); ("tombstone", None); or ("undecodable", reason, detail and bytes)."""
    if value is None:
        return TOMBSTONE, None
    try:
        name, record = decode(value)
        return name, plain(name, record)
    except WireError as error:
        return UNDECODABLE, {
            "reason": str(error.reason),
            "detail": error.detail,
            "bytes": value.hex(),
        }
