"""What viewers want: where they are and when, which class, file and bitrate.

Rule: clients by Zipf over the prefixes of a region, regions by their share and time of day.
Source: traffic per prefix is Zipf, exponent about 1; the evening peak is at 20:30 local time.
"""

import numpy as np
import numpy.typing as npt

from pipeline.sim.networks import Ground

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

DAY_MS = 86_400_000
PEAK_HOUR = 20.5
ZIPF_EXPONENT, ZIPF_SHIFT = 1.0, 3.0
FILES = 50_000
#: By class: VOD, LIVE, GAME.
CLASS_SHARES = np.array([0.74, 0.25, 0.01])
LENGTHS_MS = np.array([300_000, 600_000, 720_000])
_LADDERS_BPS = np.array(
    [
        [3_000_000, 5_000_000, 8_000_000, 16_000_000],
        [3_500_000, 6_000_000, 8_000_000, 12_000_000],
        [15_000_000, 20_000_000, 25_000_000, 35_000_000],
    ]
)
_LADDER_SHARES = np.array([0.15, 0.35, 0.35, 0.15])
MEAN_BPS = float((CLASS_SHARES[:, None] * _LADDERS_BPS * _LADDER_SHARES).sum())


def region_shares(weights: F64, lons: F64, at_ms: int) -> F64:
    """Each region's share of all viewers at a time of day."""
    hour = (at_ms % DAY_MS) / 3_600_000 + lons / 15.0
    wave = 0.68 + 0.32 * np.cos((hour - PEAK_HOUR) * (np.pi / 12))
    load = weights * wave
    shares: F64 = load / load.sum()
    return shares


def peak_shares(weights: F64, lons: F64) -> F64:
    """Each region's largest share over the day."""
    day = [region_shares(weights, lons, at) for at in range(0, DAY_MS, DAY_MS // 96)]
    peak: F64 = np.max(day, axis=0)
    return peak


class Demand:
    """Who the viewers of each region are: popularity over its prefixes."""

    def __init__(self, rng: np.random.Generator, ground: Ground) -> None:
        regions = len(ground.regions)
        self.weights = np.array([area.weight for area in ground.regions])
        self.lons = np.array([area.lon for area in ground.regions])
        self.prefixes: list[I32] = []
        self._cumulative: list[F64] = []
        popularity = np.zeros(len(ground.prefixes))
        for region in range(regions):
            mine = np.flatnonzero(ground.prefix_region == region).astype(np.int32)
            mine = rng.permutation(mine)
            if region == 0:  # the documentation networks are popular ones
                rest = mine[mine > 1]
                mine = np.concatenate([rest[:4], np.array([0, 1], dtype=np.int32), rest[4:]])
            weight = 1.0 / (np.arange(mine.size) + ZIPF_SHIFT) ** ZIPF_EXPONENT
            weight /= weight.sum()
            popularity[mine] = weight
            self.prefixes.append(mine)
            self._cumulative.append(np.cumsum(weight))
        #: of each prefix within its region
        self.popularity = popularity

    def draw(self, region: I32, uniform: F64) -> I32:
        """A prefix for each viewer of a region."""
        out = np.empty(region.size, dtype=np.int32)
        for number, mine in enumerate(self.prefixes):
            here = region == number
            rank = np.searchsorted(self._cumulative[number], uniform[here], side="right")
            out[here] = mine[np.minimum(rank, mine.size - 1)]
        return out

    def site_peak_bps(self, ground: Ground, nearest: I32, sessions: int) -> F64:
        """What each site is asked at its region's peak when everybody goes to the nearest."""
        peak = peak_shares(self.weights, self.lons) * sessions * MEAN_BPS
        weights = self.popularity * peak[ground.prefix_region]
        asked = np.bincount(nearest, weights=weights, minlength=len(ground.sites.names))
        return asked.astype(np.float64)


def classes(uniform: F64) -> I32:
    """A traffic class for each draw."""
    return np.searchsorted(np.cumsum(CLASS_SHARES)[:-1], uniform, "right").astype(np.int32)


def bitrates(traffic_class: I32, uniform: F64) -> I64:
    """A bitrate of its class's ladder for each draw."""
    step = np.searchsorted(np.cumsum(_LADDER_SHARES)[:-1], uniform, "right")
    return _LADDERS_BPS[traffic_class, step].astype(np.int64)


def clients(rng: np.random.Generator, ground: Ground, prefix: I32) -> tuple[U64, U64]:
    """An address (hi, lo) inside each prefix. A prefix's viewers live in at most eight /24 or /48
    blocks of it, most of them in the first."""
    prefixes = ground.prefixes
    start, bits, is_ipv4 = prefixes.start[prefix], prefixes.bits[prefix], prefixes.is_ipv4[prefix]
    draw = rng.random((2, prefix.size))
    spare = np.where(is_ipv4, 24, 48) - bits.astype(np.int64)
    blocks = np.left_shift(np.int64(1), np.minimum(spare, 3))
    block = (draw[0] ** 2 * blocks).astype(np.uint64)
    # blocks lie apart: the block's number fills the bits right behind the prefix
    base = start | (block << (64 - bits.astype(np.int64) - np.minimum(spare, 3)).astype(np.uint64))
    host = (draw[1] * 254 + 1).astype(np.uint64)
    hi = np.where(is_ipv4, np.uint64(0), base | (host & np.uint64(0xF)))
    lo = np.where(is_ipv4, np.uint64(0xFFFF << 32) | (base >> np.uint64(32)) | host, host)
    return hi, lo
