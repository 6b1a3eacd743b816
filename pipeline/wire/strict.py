"""A walk through one Avro body by the letter: is it whole, and if not, where and what is wrong?

Every length and count lies inside the body, every enum and union index names something, text is
UTF-8, an int fits 32 bits, a boolean is 0 or 1, no varint is longer than ten bytes, and nothing
follows the last field. Needed because both readers in use accept some of these in silence. It is
slow (some 20 µs) and only sees records that are suspected already.
"""

from collections.abc import Callable
from typing import Any

from pipeline.errors import WireError
from pipeline.reasons import Refusal

Check = Callable[[Any], bool]

VARINT_MAX = 10
LEAST = -(1 << 63)
_FLAT_SIZES = {"null": 0, "float": 4, "double": 8}


def walk(definition: dict[str, Any], body: bytes) -> None:
    """Return if `body` is one record of `definition` and nothing else; else raise WireError
    UNDECODABLE or TRAILING_BYTES with the field and the byte."""
    walker = _Walker(body)
    walker.record(definition)
    if walker.at != len(body):
        raise WireError(
            Refusal.TRAILING_BYTES, f"{len(body) - walker.at} bytes behind the last field"
        )


def ints_check(kind: Any) -> Check | None:
    """What tells whether every int in a value of this type fits 32 bits; None for a type without
    ints. (fastavro reads and writes an int as it does a long.)"""
    if isinstance(kind, str):
        return _fits if kind == "int" else None
    if isinstance(kind, list):
        checks = [check for branch in kind if (check := ints_check(branch))]
        return (lambda value: value is None or checks[0](value)) if checks else None
    if kind["type"] == "array":
        item = ints_check(kind["items"])
        return (lambda values: all(map(item, values))) if item else None
    if kind["type"] == "record":
        named = [(f["name"], check) for f in kind["fields"] if (check := ints_check(f["type"]))]
        return (lambda record: all(check(record[n]) for n, check in named)) if named else None
    return None


def _fits(value: int) -> bool:
    return -(1 << 31) <= value < 1 << 31


class _Walker:
    def __init__(self, body: bytes) -> None:
        self.body, self.at, self.field = body, 0, ""
        self.named: dict[str, dict[str, Any]] = {}

    def fail(self, what: str) -> WireError:
        return WireError(Refusal.UNDECODABLE, f"{self.field}: {what} at byte {self.at}")

    def skip(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.body):
            raise self.fail(f"{size} bytes wanted, {len(self.body) - self.at} left")
        taken = self.body[self.at : self.at + size]
        self.at += size
        return taken

    def varint(self) -> int:
        value = 0
        for position in range(VARINT_MAX):
            byte = self.skip(1)[0]
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                value &= (1 << 64) - 1
                return (value >> 1) ^ -(value & 1)
        raise self.fail("a number of more than ten bytes")

    def index(self, size: int, what: str) -> int:
        index = self.varint()
        if not 0 <= index < size:
            raise self.fail(f"{what} {index} of {size}")
        return index

    def value(self, kind: Any) -> None:
        if isinstance(kind, list):
            self.value(kind[self.index(len(kind), "branch")])
        elif isinstance(kind, str):
            named = self.named.get(kind.rpartition(".")[2])
            if named:
                self.complex(named)
            else:
                self.scalar(kind)
        else:
            self.complex(kind)

    def scalar(self, kind: str) -> None:
        if kind in _FLAT_SIZES:
            self.skip(_FLAT_SIZES[kind])
        else:
            _SCALARS[kind](self)

    def boolean(self) -> None:
        if self.skip(1)[0] > 1:
            raise self.fail("neither true nor false")

    def int32(self) -> None:
        if not _fits(self.varint()):
            raise self.fail("a number of more than 32 bits")

    def text(self) -> None:
        try:
            self.skip(self.varint()).decode()
        except UnicodeDecodeError:
            raise self.fail("text that is not UTF-8") from None

    def complex(self, kind: dict[str, Any]) -> None:
        name = kind["type"]
        if name in ("record", "enum", "fixed"):
            self.named[kind["name"]] = kind
        if name == "record":
            self.record(kind)
        elif name == "enum":
            self.index(len(kind["symbols"]), "symbol")
        elif name == "fixed":
            self.skip(kind["size"])
        elif name == "array":
            self.array(kind["items"])
        else:
            self.value(name)

    def record(self, kind: dict[str, Any]) -> None:
        outer = self.field
        for field in kind["fields"]:
            self.field = f"{outer}.{field['name']}" if outer else field["name"]
            self.value(field["type"])
        self.field = outer

    def array(self, items: Any) -> None:
        while count := self.varint():
            if count < 0:  # the size of the block in bytes follows, which nobody needs
                count = -count if count > LEAST else 0  # as a long the least number has no opposite
                self.varint()
            for _ in range(count):
                self.value(items)


_SCALARS: dict[str, Callable[[_Walker], object]] = {
    "boolean": _Walker.boolean,
    "int": _Walker.int32,
    "long": _Walker.varint,
    "string": _Walker.text,
    "bytes": lambda walker: walker.skip(walker.varint()),
}
