"""What bgp.routes brought to a cut, screened and turned into columns: one batch in offset order.

Rows are announcements and withdrawals, whether they came as Route records or as tombstones of the
compacted topic; PeerUp and PeerDown become flushes: points in the order at which all that the peer
had announced is gone. Nothing here touches the state but the names of sessions, which get their
ids.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.errors import WireError
from pipeline.reasons import Refusal
from pipeline.state.ids import bad_ids
from pipeline.state.lpm import Prefixes
from pipeline.wire.address import MAPPED_LENGTH, masks, parse_prefix, prefix_columns
from pipeline.wire.bogons import is_bogon, is_default
from pipeline.wire.rows import OFFSET, TOMBSTONE, Account, TopicRows, screen

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ID_BYTES_MAX = 128
MISSING_MED = -1
_SESSION = "_session"
_WORD_MAX = (1 << 32) - 1  # MED (RFC 4271) and path identifier (RFC 7911) are four octets
_SEPARATOR = "\x1f"  # a control character: `bad_ids` refuses names that hold one
_U64 = np.uint64
#: An offset within a batch takes 40 bits of a packed word, its session the other 24.
_OFFSET_BITS = _U64(40)

#: (site, peer) -> session id
Sessions = Callable[[str, str], int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Equally long columns in offset order. `epoch`: how many flushes of the row's session came
    before it; `flushes[s]`: how many session s had in all (empty where there were none)."""

    offset: Int64
    session: Int32
    path_id: Int64
    prefixes: Prefixes
    announce: Bools
    as_path_len: Int64
    med: Int64  # -1: without
    epoch: Int64
    flushes: Int64

    def __len__(self) -> int:
        return len(self.offset)


def read_batch(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> Batch:
    """Screen every frame of the topic, account for each row, put what changes state in order."""
    parts = [
        _routes(rows, now_ms, config, sessions, account),
        _tombstones(rows, sessions, account),
    ]
    frame = pl.concat(part for part in parts if part is not None)
    if not frame.get_column(OFFSET).is_sorted():
        frame = frame.sort(OFFSET)
    offset, session = frame.get_column(OFFSET).to_numpy(), frame.get_column(_SESSION).to_numpy()
    epoch, flushes = _epochs(offset, session, _flushes(rows, now_ms, config, sessions, account))
    return Batch(
        offset=offset,
        session=session,
        path_id=frame.get_column("path_id").to_numpy(),
        prefixes=(
            frame.get_column("hi").to_numpy(),
            frame.get_column("lo").to_numpy(),
            frame.get_column("length").to_numpy(),
        ),
        announce=frame.get_column("announce").to_numpy(),
        as_path_len=frame.get_column("as_path_len").to_numpy(),
        med=frame.get_column("med").to_numpy(),
        epoch=epoch,
        flushes=flushes,
    )


_COLUMNS = {
    OFFSET: pl.Int64,
    _SESSION: pl.Int32,
    "path_id": pl.Int64,
    "hi": pl.UInt64,
    "lo": pl.UInt64,
    "length": pl.UInt8,
    "announce": pl.Boolean,
    "as_path_len": pl.Int64,
    "med": pl.Int64,
}


def _routes(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> pl.DataFrame:
    frame = rows.frames.get("Route")
    if frame is None or not frame.height:
        return pl.DataFrame(schema=_COLUMNS)
    hi, lo, length = prefix_columns(frame.get_column("prefix"))
    frame = frame.select(
        OFFSET,
        _session_ids(frame, sessions),
        "path_id",
        pl.Series("hi", hi),
        pl.Series("lo", lo),
        pl.Series("length", length),
        (pl.col("action").cast(pl.String) == "ANNOUNCE").alias("announce"),
        pl.col("as_path_len").cast(pl.Int64),
        pl.col("med").fill_null(MISSING_MED),
        "at_ms",
        pl.col("med").is_not_null().alias("has_med"),
    )
    named = screen(rows.topic, frame, _name_checks(frame, now_ms, config), account)
    kept = screen(rows.topic, named, _attribute_checks(named, config), account)
    account.fold(rows.topic, kept.height)
    return _with_refused_as_withdrawn(named, kept).select(*_COLUMNS)


def _with_refused_as_withdrawn(named: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    """An announcement replaces the route before it even where its attributes are refused: that
    route is gone (RFC 7606, treat-as-withdraw)."""
    if kept.height == named.height:
        return kept
    refused = named.filter(~pl.col(OFFSET).is_in(kept.get_column(OFFSET).implode()))
    gone = refused.filter(pl.col("announce")).with_columns(
        announce=pl.lit(value=False),
        as_path_len=pl.lit(0, pl.Int64),
        med=pl.lit(MISSING_MED, pl.Int64),
    )
    return pl.concat([kept, gone]).sort(OFFSET)


def _attribute_checks(frame: pl.DataFrame, config: SteeringConfig) -> list[tuple[Refusal, Bools]]:
    """What is wrong with what a route says of a prefix, not with which route it is."""
    hops, med = frame.get_column("as_path_len").to_numpy(), frame.get_column("med").to_numpy()
    bad_med = frame.get_column("has_med").to_numpy() & ((med < 0) | (med > _WORD_MAX))
    return [
        (Refusal.AS_PATH_TOO_LONG, hops > config.proximity.as_path_hops_max),
        (Refusal.OUT_OF_RANGE, (hops < 0) | bad_med),
    ]


def _name_checks(
    frame: pl.DataFrame, now_ms: int, config: SteeringConfig
) -> list[tuple[Refusal, Bools]]:
    """Which route it is must be right for the row to have any effect."""
    hi, lo, length = (frame.get_column(name).to_numpy() for name in ("hi", "lo", "length"))
    mapped = (hi == 0) & ((lo >> _U64(32)) == _U64(0xFFFF))
    mask_hi, mask_lo = masks(length)
    path_id = frame.get_column("path_id").to_numpy()
    return [
        (Refusal.BAD_ID, frame.get_column(_SESSION).to_numpy() < 0),
        (Refusal.BAD_PREFIX_LENGTH, (length > 128) | (mapped & (length < MAPPED_LENGTH))),
        (Refusal.HOST_BITS, ((hi & ~mask_hi) != 0) | ((lo & ~mask_lo) != 0)),
        (Refusal.DEFAULT_ROUTE, is_default(hi, lo, length)),
        (
            Refusal.BOGON,
            is_bogon(hi, lo, length, config.proximity.allow_documentation_prefixes),
        ),
        (Refusal.OUT_OF_RANGE, (path_id < 0) | (path_id > _WORD_MAX)),
        (Refusal.FROM_THE_FUTURE, _from_the_future(frame, now_ms, config)),
    ]


def _from_the_future(frame: pl.DataFrame, now_ms: int, config: SteeringConfig) -> Bools:
    late: Bools = frame.get_column("at_ms").to_numpy() > now_ms + config.inputs.future_max_ms
    return late


def _flushes(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> pl.DataFrame:
    """(offset, session) of every PeerUp and PeerDown; EndOfRib changes nothing and is counted."""
    flushes = [pl.DataFrame(schema={OFFSET: pl.Int64, _SESSION: pl.Int32})]
    for name in ("PeerUp", "PeerDown", "EndOfRib"):
        frame = rows.frames.get(name)
        if frame is None or not frame.height:
            continue
        frame = frame.select(OFFSET, _session_ids(frame, sessions), "at_ms")
        checks = [
            (Refusal.BAD_ID, frame.get_column(_SESSION).to_numpy() < 0),
            (Refusal.FROM_THE_FUTURE, _from_the_future(frame, now_ms, config)),
        ]
        kept = screen(rows.topic, frame, checks, account)
        account.fold(rows.topic, kept.height)
        if name != "EndOfRib":
            flushes.append(kept.select(OFFSET, _SESSION))
    return pl.concat(flushes)


def _epochs(offset: Int64, session: Int32, flushes: pl.DataFrame) -> tuple[Int64, Int64]:
    """Per row the number of earlier flushes of its session; per session the number of all."""
    if not flushes.height:
        return np.zeros(len(offset), dtype=np.int64), np.zeros(0, dtype=np.int64)
    where, whose = flushes.get_column(OFFSET).to_numpy(), flushes.get_column(_SESSION).to_numpy()
    base = min(int(where.min()), int(offset.min()) if len(offset) else int(where.min()))

    def packed(session: Int32, offset: Int64) -> npt.NDArray[np.uint64]:
        return (session.astype(np.uint64) << _OFFSET_BITS) | (offset - base).astype(np.uint64)

    order = np.sort(packed(whose, where))
    own = session.astype(np.uint64) << _OFFSET_BITS
    earlier = np.searchsorted(order, packed(session, offset)) - np.searchsorted(order, own)
    return earlier.astype(np.int64), np.bincount(whose).astype(np.int64)


def _session_ids(frame: pl.DataFrame, sessions: Sessions) -> pl.Series:
    """The session of each row by its `site` and `peer`; -1 where one of them is no identifier."""
    pair = frame.select(pl.concat_str("site", "peer", separator=_SEPARATOR).alias("pair"))
    known = pair.unique(maintain_order=True)
    names = known.get_column("pair").str.split(_SEPARATOR)
    known = known.with_columns(site=names.list.get(0), peer=names.list.get(1))
    bad = names.list.len().to_numpy() != 2
    for column in ("site", "peer"):
        named = known.get_column(column)
        bad |= bad_ids(named) | (named.str.len_bytes().to_numpy() > ID_BYTES_MAX)
    ids = [
        -1 if wrong else sessions(site, peer)
        for wrong, site, peer in zip(bad.tolist(), known["site"], known["peer"], strict=True)
    ]
    known = known.select("pair", pl.Series(_SESSION, ids, dtype=pl.Int32))
    joined = pair.join(known, on="pair", how="left", maintain_order="left")
    return joined.get_column(_SESSION)


def _tombstones(rows: TopicRows, sessions: Sessions, account: Account) -> pl.DataFrame:
    """Withdrawals by key: `site|peer|prefix|path_id`. The tombstone of a session or of an end of
    RIB changes nothing; any other key is refused."""
    frame = rows.frames.get(TOMBSTONE)
    if frame is None or not frame.height:
        return pl.DataFrame(schema=_COLUMNS)
    text = _text(frame.get_column("key"))
    field = text.str.extract_groups(r"^([^|]+)\|([^|]+)\|([^|]+)(?:\|([0-9]{1,10}))?$").struct
    third, fourth = field.field("3"), field.field("4")
    frame = frame.select(
        OFFSET, site=field.field("1").fill_null(""), peer=field.field("2").fill_null("")
    )
    no_effect = (third.is_in(["session", "eor"]) & fourth.is_null()).fill_null(False).to_numpy()
    prefix = _parsed(third.fill_null(""))
    path_id = fourth.cast(pl.Int64).fill_null(-1).alias("path_id")
    bad = prefix.is_null().to_numpy() | (path_id < 0).to_numpy() | (path_id > _WORD_MAX).to_numpy()
    frame = frame.with_columns(
        _session_ids(frame, sessions), path_id, prefix, pl.Series("_no_effect", no_effect)
    )
    bad = (bad & ~no_effect) | (frame.get_column(_SESSION).to_numpy() < 0)
    kept = screen(rows.topic, frame, [(Refusal.BAD_KEY, bad)], account)
    account.fold(rows.topic, kept.height)
    kept = kept.filter(~pl.col("_no_effect"))
    hi, lo, length = prefix_columns(kept.get_column("prefix"))
    return kept.select(
        OFFSET,
        _SESSION,
        "path_id",
        pl.Series("hi", hi),
        pl.Series("lo", lo),
        pl.Series("length", length),
        announce=pl.lit(False),
        as_path_len=pl.lit(0, dtype=pl.Int64),
        med=pl.lit(MISSING_MED, dtype=pl.Int64),
    )


def _text(keys: pl.Series) -> pl.Series:
    """Keys as text, empty where they are none. (polars casts all of a column or nothing.)"""
    try:
        return keys.cast(pl.String)
    except pl.exceptions.ComputeError:
        texts = [key.decode(errors="ignore") for key in keys]
        whole = [
            text if text.encode() == key else "" for text, key in zip(texts, keys, strict=True)
        ]
        return pl.Series(keys.name, whole, dtype=pl.String)


def _parsed(text: pl.Series) -> pl.Series:
    """Prefixes from text, null where there is none. Text by text (4 us), each only once: feeds
    withdraw by record, and tombstones come in bulk only when an operator sweeps a topic."""
    known = text.unique(maintain_order=True)
    values = pl.Series("prefix", [_prefix(one) for one in known], dtype=pl.Binary)
    table = pl.DataFrame({"text": known, "prefix": values})
    frame = pl.DataFrame({"text": text})
    return frame.join(table, on="text", how="left", maintain_order="left").get_column("prefix")


def _prefix(text: str) -> bytes | None:
    try:
        return parse_prefix(text)
    except WireError:
        return None
