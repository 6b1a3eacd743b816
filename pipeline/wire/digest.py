"""One number for raw records: what an Epoch says of the rows that a cut took."""

from collections.abc import Iterable, Sequence

import xxhash


def digest_of(pieces: Iterable[Sequence[bytes | None]]) -> str:
    """xxh3_64 over values in order of offset, 16 hex digits; the same for any division into
    pieces. A tombstone adds nothing."""
    state = xxhash.xxh3_64()
    for values in pieces:
        try:
            state.update(b"".join(values))  # type: ignore[arg-type]  # a tombstone raises
        except TypeError:
            state.update(b"".join(value or b"" for value in values))
    return state.hexdigest()
