"""Made-up records for any schema: by hypothesis for round trips, by a seeded generator in bulk."""

from random import Random
from typing import Any

from hypothesis import strategies as st

Definition = Any
LONG = (-(1 << 63), (1 << 63) - 1)
INT = (-(1 << 31), (1 << 31) - 1)


def record_strategy(definition: Definition) -> st.SearchStrategy[Any]:
    """Any value of the type; NaN left out, because it does not equal itself."""
    return _strategy(definition, {})


def random_record(definition: Definition, rng: Random) -> Any:
    """One value of the type, of the sizes that real records have, with a few extremes."""
    return _random(definition, rng, {})


def _named(kind: Definition, named: dict[str, Definition]) -> Definition:
    if isinstance(kind, str):
        return named.get(kind, kind)
    if isinstance(kind, dict) and "name" in kind:
        named[kind["name"]] = kind
    return kind


def _strategy(kind: Definition, named: dict[str, Definition]) -> st.SearchStrategy[Any]:
    kind = _named(kind, named)
    if isinstance(kind, list):
        return st.one_of([_strategy(branch, named) for branch in kind])
    if isinstance(kind, str):
        return {
            "null": st.none(),
            "boolean": st.booleans(),
            "int": st.integers(*INT),
            "long": st.integers(*LONG),
            "double": st.floats(allow_nan=False),
            "string": st.text(max_size=80),
            "bytes": st.binary(max_size=80),
        }[kind]
    if kind["type"] == "record":
        return st.fixed_dictionaries(
            {field["name"]: _strategy(field["type"], named) for field in kind["fields"]}
        )
    if kind["type"] == "enum":
        return st.sampled_from(kind["symbols"])
    if kind["type"] == "fixed":
        return st.binary(min_size=kind["size"], max_size=kind["size"])
    return st.lists(_strategy(kind["items"], named), max_size=4)


def _random(kind: Definition, rng: Random, named: dict[str, Definition]) -> Any:
    kind = _named(kind, named)
    if isinstance(kind, list):
        return _random(rng.choice(kind), rng, named)
    if isinstance(kind, str):
        return _scalar(kind, rng)
    if kind["type"] == "record":
        return {field["name"]: _random(field["type"], rng, named) for field in kind["fields"]}
    if kind["type"] == "enum":
        return rng.choice(kind["symbols"])
    if kind["type"] == "fixed":
        return rng.randbytes(kind["size"])
    return [_random(kind["items"], rng, named) for _ in range(rng.choice((0, 1, 1, 2, 5)))]


def _scalar(kind: str, rng: Random) -> Any:
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "int":
        return rng.choice((rng.randrange(100), rng.randint(*INT)))
    if kind == "long":
        return rng.choice((0, rng.randrange(1 << 20), rng.randrange(1 << 41), rng.randint(*LONG)))
    if kind == "double":
        return rng.choice((0.0, rng.random(), -rng.random() * 1e300))
    if kind == "bytes":
        return rng.randbytes(rng.randrange(12))
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-" + rng.choice(("", "äß", "→🎬"))
    return "".join(rng.choices(letters, k=rng.choice((0, 5, 9, 20, 70))))
