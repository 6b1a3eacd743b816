"""What bgp.routes brought to a cut, screened and turned into columns: one batch in offset order.

Rows are announcements and withdrawals, whether they came as Route records or as tombstones of the
compacted topic; PeerUp and PeerDown become flushes: points in the order at which all that the peer
had announced is gone. Nothing here touches the state but the names of sessions, which get their
ids.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.reasons import Refusal
from pipeline.state.ids import FEW, bad_ids, codes
from pipeline.state.lpm import Prefixes
from pipeline.state.routekeys import read_keys
from pipeline.wire.address import MAPPED_LENGTH, masks, prefix_columns
from pipeline.wire.bogons import is_bogon, is_default
from pipeline.wire.rows import OFFSET, TOMBSTONE, Account, Check, TopicRows, passing

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
#: Equally long columns by name.
Columns = dict[str, npt.NDArray[Any]]

ID_BYTES_MAX = 128
MISSING_MED = -1
_SESSION = "_session"
_ACTIONS = {"ANNOUNCE": 0, "WITHDRAW": 1}  # in the order of the schema
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
    before it; `flushes[s]`: how many session s had in all (empty where there were none).
    `down_epoch`, `downs`: the same of PeerDown alone."""

    offset: Int64
    session: Int32
    path_id: Int64
    prefixes: Prefixes
    announce: Bools
    as_path_len: Int64
    med: Int64  # -1: without
    epoch: Int64
    flushes: Int64
    down_epoch: Int64
    downs: Int64

    def __len__(self) -> int:
        return len(self.offset)


def read_batch(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> Batch:
    """Screen every frame of the topic, account for each row, put what changes state in order."""
    columns = _together(
        [
            _routes(rows, now_ms, config, sessions, account),
            _tombstones(rows, sessions, account),
        ]
    )
    where, whose, down = _flushes(rows, now_ms, config, sessions, account)
    epoch, amount = _epochs(columns[OFFSET], columns[_SESSION], where, whose)
    down_epoch, downs = _epochs(columns[OFFSET], columns[_SESSION], where[down], whose[down])
    return Batch(
        offset=columns[OFFSET],
        session=columns[_SESSION],
        path_id=columns["path_id"],
        prefixes=(columns["hi"], columns["lo"], columns["length"]),
        announce=columns["announce"],
        as_path_len=columns["as_path_len"],
        med=columns["med"],
        epoch=epoch,
        flushes=amount,
        down_epoch=down_epoch,
        downs=downs,
    )


_COLUMNS: dict[str, type[np.generic]] = {
    OFFSET: np.int64,
    _SESSION: np.int32,
    "path_id": np.int64,
    "hi": np.uint64,
    "lo": np.uint64,
    "length": np.uint8,
    "announce": np.bool_,
    "as_path_len": np.int64,
    "med": np.int64,
}


def _together(parts: list[Columns]) -> Columns:
    """All rows in offset order."""
    full = [part for part in parts if len(part.get(OFFSET, ()))]
    if not full:
        return {name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()}
    if len(full) == 1:
        return full[0]
    joined = {name: np.concatenate([part[name] for part in full]) for name in _COLUMNS}
    order = np.argsort(joined[OFFSET], kind="stable")
    return {name: column[order] for name, column in joined.items()}


def _routes(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> Columns:
    frame = rows.frames.get("Route")
    if frame is None or not frame.height:
        return {}
    hi, lo, length = prefix_columns(frame.get_column("prefix"))
    med, has_med = _meds(frame.get_column("med"))
    columns: Columns = {
        OFFSET: frame.get_column(OFFSET).to_numpy(),
        _SESSION: _session_ids(frame, sessions),
        "path_id": frame.get_column("path_id").to_numpy(),
        "hi": hi,
        "lo": lo,
        "length": length,
        "announce": codes(frame.get_column("action"), _ACTIONS) == _ACTIONS["ANNOUNCE"],
        "as_path_len": frame.get_column("as_path_len").to_numpy().astype(np.int64),
        "med": med,
        "at_ms": frame.get_column("at_ms").to_numpy(),
        "has_med": has_med,
    }
    named = passing(rows.topic, columns[OFFSET], _name_checks(columns, now_ms, config), account)
    columns = {name: column[named] for name, column in columns.items()}
    kept = passing(rows.topic, columns[OFFSET], _attribute_checks(columns, config), account)
    account.fold(rows.topic, len(columns[OFFSET][kept]))
    if not isinstance(kept, slice):
        columns = _with_refused_as_withdrawn(columns, kept)
    return {name: columns[name] for name in _COLUMNS}


def _meds(series: pl.Series) -> tuple[Int64, Bools]:
    """(MED, -1 where there is none; whether there is one). Where some are missing polars hands out
    doubles, which hold every MED there may be; whatever is above them is refused as above them."""
    read = series.to_numpy()
    if read.dtype.kind == "i":
        return read, np.ones(len(read), dtype=np.bool_)
    there: Bools = ~np.isnan(read)
    return np.where(there, np.minimum(read, _WORD_MAX + 1.0), MISSING_MED).astype(np.int64), there


def _with_refused_as_withdrawn(columns: Columns, kept: Bools) -> Columns:
    """An announcement replaces the route before it even where its attributes are refused: that
    route is gone (RFC 7606, treat-as-withdraw)."""
    gone = ~kept & columns["announce"]
    columns |= {
        "announce": columns["announce"] & kept,
        "as_path_len": np.where(gone, 0, columns["as_path_len"]),
        "med": np.where(gone, MISSING_MED, columns["med"]),
    }
    return {name: column[kept | gone] for name, column in columns.items()}


def _attribute_checks(columns: Columns, config: SteeringConfig) -> list[Check]:
    """What is wrong with what a route says of a prefix, not with which route it is."""
    hops, med = columns["as_path_len"], columns["med"]
    bad_med = columns["has_med"] & ((med < 0) | (med > _WORD_MAX))
    return [
        (Refusal.AS_PATH_TOO_LONG, hops > config.proximity.as_path_hops_max),
        (Refusal.OUT_OF_RANGE, (hops < 0) | bad_med),
    ]


def _name_checks(columns: Columns, now_ms: int, config: SteeringConfig) -> list[Check]:
    """Which route it is must be right for the row to have any effect."""
    hi, lo, length = (columns[name] for name in ("hi", "lo", "length"))
    mapped = (hi == 0) & ((lo >> _U64(32)) == _U64(0xFFFF))
    mask_hi, mask_lo = masks(length)
    path_id = columns["path_id"]
    return [
        (Refusal.BAD_ID, columns[_SESSION] < 0),
        (Refusal.BAD_PREFIX_LENGTH, (length > 128) | (mapped & (length < MAPPED_LENGTH))),
        (Refusal.HOST_BITS, ((hi & ~mask_hi) != 0) | ((lo & ~mask_lo) != 0)),
        (Refusal.DEFAULT_ROUTE, is_default(hi, lo, length)),
        (
            Refusal.BOGON,
            is_bogon(hi, lo, length, config.proximity.allow_documentation_prefixes),
        ),
        (Refusal.OUT_OF_RANGE, (path_id < 0) | (path_id > _WORD_MAX)),
        (Refusal.FROM_THE_FUTURE, _from_the_future(columns["at_ms"], now_ms, config)),
    ]


def _from_the_future(at_ms: Int64, now_ms: int, config: SteeringConfig) -> Bools:
    late: Bools = at_ms > now_ms + config.inputs.future_max_ms
    return late


def _flushes(
    rows: TopicRows, now_ms: int, config: SteeringConfig, sessions: Sessions, account: Account
) -> tuple[Int64, Int32, Bools]:
    """(offset, session, whether it went down) of every PeerUp and PeerDown; EndOfRib changes
    nothing and is counted."""
    where, whose = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
    down = [np.empty(0, np.bool_)]
    for name in ("PeerUp", "PeerDown", "EndOfRib"):
        frame = rows.frames.get(name)
        if frame is None or not frame.height:
            continue
        offset, session = frame.get_column(OFFSET).to_numpy(), _session_ids(frame, sessions)
        late = _from_the_future(frame.get_column("at_ms").to_numpy(), now_ms, config)
        checks = [(Refusal.BAD_ID, session < 0), (Refusal.FROM_THE_FUTURE, late)]
        kept = passing(rows.topic, offset, checks, account)
        account.fold(rows.topic, len(offset[kept]))
        if name != "EndOfRib":
            where.append(offset[kept])
            whose.append(session[kept])
            down.append(np.full(len(whose[-1]), name == "PeerDown"))
    return np.concatenate(where), np.concatenate(whose), np.concatenate(down)


def _epochs(offset: Int64, session: Int32, where: Int64, whose: Int32) -> tuple[Int64, Int64]:
    """Per row the number of earlier flushes of its session; per session the number of all."""
    if not len(where):
        return np.zeros(len(offset), dtype=np.int64), np.zeros(0, dtype=np.int64)
    base = min(int(where.min()), int(offset.min()) if len(offset) else int(where.min()))

    def packed(session: Int32, offset: Int64) -> npt.NDArray[np.uint64]:
        return (session.astype(np.uint64) << _OFFSET_BITS) | (offset - base).astype(np.uint64)

    order = np.sort(packed(whose, where))
    own = session.astype(np.uint64) << _OFFSET_BITS
    earlier = np.searchsorted(order, packed(session, offset)) - np.searchsorted(order, own)
    return earlier.astype(np.int64), np.bincount(whose).astype(np.int64)


def _session_ids(frame: pl.DataFrame, sessions: Sessions) -> Int32:
    """The session of each row by its `site` and `peer`; -1 where one of them is no identifier. Few
    rows one by one; of many the distinct pairs."""
    if frame.height <= FEW:
        sites, peers = frame.get_column("site").to_list(), frame.get_column("peer").to_list()
        rows = list(zip(sites, peers, strict=True))
        named = {
            pair: -1 if _is_bad(pair[0]) or _is_bad(pair[1]) else sessions(*pair)
            for pair in dict.fromkeys(rows)
        }
        return np.array([named[pair] for pair in rows], dtype=np.int32)
    pair = frame.select(pl.concat_str("site", "peer", separator=_SEPARATOR).alias("pair"))
    known = pair.unique(maintain_order=True)
    names = known.get_column("pair").str.split(_SEPARATOR)
    known = known.with_columns(site=names.list.get(0), peer=names.list.get(1))
    ids = [
        -1 if amount != 2 or _is_bad(site) or _is_bad(peer) else sessions(site, peer)
        for amount, site, peer in zip(names.list.len(), known["site"], known["peer"], strict=True)
    ]
    known = known.select("pair", pl.Series(_SESSION, ids, dtype=pl.Int32))
    joined = pair.join(known, on="pair", how="left", maintain_order="left")
    return joined.get_column(_SESSION).to_numpy()


@lru_cache(maxsize=1 << 16)
def _is_bad(name: str) -> bool:
    """Whether a site or peer may not be called that: asked again for each change of its routes."""
    if name.isascii() and name.isprintable() and "|" not in name:
        return not 0 < len(name) <= ID_BYTES_MAX
    column = pl.Series([name], dtype=pl.String)
    return bool(bad_ids(column)[0]) or len(name.encode()) > ID_BYTES_MAX


def _tombstones(rows: TopicRows, sessions: Sessions, account: Account) -> Columns:
    """Withdrawals by key: `site|peer|prefix|path_id`. The tombstone of a session or of an end of
    RIB changes nothing; any other key is refused."""
    frame = rows.frames.get(TOMBSTONE)
    if frame is None or not frame.height:
        return {}
    named = read_keys(frame.get_column("key"))
    frame = frame.select(OFFSET, site=named.site, peer=named.peer)
    no_effect, path_id = named.no_effect, named.path_id
    bad = named.prefix.is_null().to_numpy() | (path_id < 0) | (path_id > _WORD_MAX)
    offset, session = frame.get_column(OFFSET).to_numpy(), _session_ids(frame, sessions)
    bad = (bad & ~no_effect) | (session < 0)
    kept = passing(rows.topic, offset, [(Refusal.BAD_KEY, bad)], account)
    account.fold(rows.topic, len(offset[kept]))
    gone = np.flatnonzero(~bad & ~no_effect)
    hi, lo, length = prefix_columns(named.prefix.gather(gone))
    return {
        OFFSET: offset[gone],
        _SESSION: session[gone],
        "path_id": path_id[gone],
        "hi": hi,
        "lo": lo,
        "length": length,
        "announce": np.zeros(len(gone), np.bool_),
        "as_path_len": np.zeros(len(gone), np.int64),
        "med": np.full(len(gone), MISSING_MED, np.int64),
    }
