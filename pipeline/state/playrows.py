"""What plays say of demand: which client block wants how much, and in which region.

A block is a /24 of IPv4 or a /48 of IPv6 in a region: with its region it packs into one 64-bit key.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.state import screens
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Bool, Int32, Int64, UInt64
from pipeline.wire.address import halves

#: What a stall kept from a play counts for so much of it: more is no report of a heartbeat's time.
STALL_MAX_MS = 60_000
FAILOVER = "FAILOVER"  # of PlayEventKind
_U64 = np.uint64
# A key: region from bit 49 up; bit 48 for IPv4; below it the block's bits.
_REGION, _V4, _BLOCK_BITS = _U64(49), _U64(1) << _U64(48), (_U64(1) << _U64(48)) - _U64(1)
_MAPPED = _U64(0xFFFF)


class PlayRows(NamedTuple):
    """Accepted plays as columns, for all that fold them: `appliance` is the fleet's id, -1 for a
    name that it does not know; whether they left it by themselves (FAILOVER); bytes received and
    wanted."""

    appliance: Int32
    left: Bool
    received: Int64
    wanted: Int64
    at_ms: Int64


def play_rows(frame: pl.DataFrame, kept: Bool | slice, fleet: Fleet) -> PlayRows:
    """The rows `kept` of a frame of PlayEvent."""
    row = fleet.appliances.index(frame.get_column("appliance"))[kept]
    left = (frame.get_column("event") == FAILOVER).to_numpy()[kept]
    received, at_ms = (frame.get_column(name).to_numpy()[kept] for name in ("bytes", "at_ms"))
    return PlayRows(row, left, received, wanted_bytes(frame)[kept], at_ms)


def wanted_bytes(frame: pl.DataFrame) -> Int64:
    """Of each play: what it received, and what it would have received in the time it stalled."""
    received, bitrate, stall = (
        frame.get_column(name).to_numpy() for name in ("bytes", "bitrate_bps", "stall_ms")
    )
    stalled = np.flatnonzero(stall > 0)
    if not len(stalled):
        return received
    wanted: Int64 = received.copy()
    stalled_ms = np.minimum(stall[stalled], STALL_MAX_MS)
    bitrate_bps = np.clip(bitrate[stalled], 0, screens.BPS_MAX)
    wanted[stalled] += np.minimum(bitrate_bps * stalled_ms // 8000, screens.BYTES_MAX)
    return wanted


def blocks_of(keys: UInt64) -> tuple[Int32, UInt64, UInt64]:
    """Region, hi and lo of the blocks of these keys."""
    v4 = (keys & _V4) != 0
    bits = keys & _BLOCK_BITS
    hi = np.where(v4, _U64(0), bits << _U64(16))
    lo = np.where(v4, (_MAPPED << _U64(32)) | (bits << _U64(8)), _U64(0))
    return (keys >> _REGION).astype(np.int32), hi, lo


def regions_of(row: Int32, fleet: Fleet) -> tuple[Int32, Int64]:
    """Of plays of the appliances `row` (PlayRows): (region id of each, -1 none; its appliance's id,
    -1 for one not in the inventory)."""
    alive = np.flatnonzero(fleet.region_alive)
    fallback = int(alive[0]) if len(alive) == 1 else -1
    # One row more than there are appliances, for those that have no id: index -1 finds it.
    live = np.append(fleet.live_appliances(), False)
    placed = live[row]
    of_appliance = np.append(fleet.site_region[fleet.appliance_site], np.int32(-1))
    known = np.where(placed, row, -1).astype(np.int64)
    return np.where(live, of_appliance, np.int32(fallback))[row], known


def cells_of(keys: UInt64, cell: UInt64, cells: int) -> tuple[Int64, Int64]:
    """The order of rows by (key, cell < cells), and where in it each of these begins. Key and cell
    are sorted as one number wherever regions times cells stay below 2**15."""
    if int(keys.max() >> _REGION) + 1 <= (1 << 15) // cells:
        order = np.argsort(keys * _U64(cells) + cell)
    else:
        order = np.lexsort((cell, keys))
    keys, cell = keys[order], cell[order]
    first = np.ones(len(keys), dtype=np.bool_)
    first[1:] = (keys[1:] != keys[:-1]) | (cell[1:] != cell[:-1])
    return order, np.flatnonzero(first)


def keys_of(clients: pl.Series, kept: Bool | slice, region: Int32) -> UInt64:
    """The key of the block of each client `kept`, given the regions of these."""
    hi, lo = (half[kept] for half in halves(clients))
    v4 = (hi == 0) & ((lo >> _U64(32)) == _MAPPED)
    block = np.where(v4, _V4 | ((lo >> _U64(8)) & _U64(0xFFFFFF)), hi >> _U64(16))
    return (region.astype(np.uint64) << _REGION) | block
