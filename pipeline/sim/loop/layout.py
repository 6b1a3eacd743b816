"""The ground of a simulated cell: metros, networks of clients, sites, appliances, links, routes.

Idea: a fleet is bought for its peak by nearest-first, most sites for half to three quarters, a few
too small, so that there is something to spill and somewhere to spill to. Machines are unlike: two
sizes, and one kind whose disks carry less than its port, which no inventory says.
Rule: a network of clients (one announced /22, viewers in one /24 of it) lives in a metro and
belongs to an ISP. It hears of the sites inside its ISP in its metro (one AS hop), of the exchanges
of its metro (two) and of the nearest exchanges elsewhere (three); among equals the nearer one
ranks first. What a site serves within its metro leaves by its peering port, the rest by its
backbone link.
Sources: heterogeneous hardware is the rule at Open Connect (storage and flash appliances); traffic
per network is Zipf with exponent about 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.decide.distance import distance_km, points
from pipeline.sim.loop.tally import sums

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

CLASSES = 2  # VOD and LIVE
BITRATE_BPS = np.array([6_000_000.0, 7_000_000.0])
CLASS_SHARE = np.array([0.94, 0.06])  # of the viewers, outside of events
WATCH_S = np.array([1_200.0, 1_800.0])
DISK_SHARE = np.array([0.6, 0.0])  # of its bytes read from disk; live stays in memory
CONNECTIONS = 2  # a viewer's
_BPS_PER_CONNECTION = 2_250_000.0  # a port's share of the limit: full at 4.5 Mbps a viewer
_FAR = 6  # exchanges of other metros that a network hears of
_UNHEARD = 9
_STEP_BPS = 10_000_000
#: By model: relative size of the port, and what the disks carry of it.
_PORT = np.array([1.0, 1.0, 2.0])
_DISK = np.array([1.0, 0.40, 1.0])
_BOUGHT_FOR, _TOO_SMALL, _SMALL_EVERY = (0.5, 0.75), 1.2, 12
PEERING, BACKBONE = 0, 1
#: Light in fibre takes 10 us for a kilometre and back; the rest is in the middle of a step of the
#: plane's ladder (state/paths.py), so that within a metro it is the kilometres that decide.
_LAST_MILE_US, _US_PER_KM = 4_900, 10
_LINK_ROOM = np.array([1.2, 0.6])  # of the site's ports


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is; `viewers` at its peak."""

    metros: int
    exchanges: int
    embedded: int
    isps: int
    networks: int
    appliances: int
    viewers: int


QUICK = Size(4, 2, 4, 5, 240, 160, 400_000)
FULL = Size(25, 3, 5, 8, 3_000, 2_000, 5_000_000)


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns over B networks, S sites, A appliances (sorted by site), links (site * 2 + which).

    candidate int32[B, K]: sites by proximity, -1 behind the last; hops, km, rtt_us likewise; local
    bool[B, K]: in the same metro; popularity float64[B] sums to 1; site_isp -1 at an exchange."""

    size: Size
    metro: I32
    isp: I32
    lat: F64
    lon: F64
    popularity: F64
    candidate: I32
    hops: I32
    km: I32
    rtt_us: I64
    local: Bools
    site_names: list[str]
    site_metro: I32
    site_isp: I32
    site_lat: F64
    site_lon: F64
    names: list[str]
    site: I32
    port_bps: F64
    disk_bps: F64
    connections: F64
    link_bps: F64

    @property
    def sites(self) -> int:
        return len(self.site_names)

    def link_names(self) -> list[str]:
        """Of every site its peering port, then its backbone link."""
        return [f"{name}-{kind}" for name in self.site_names for kind in ("peering", "backbone")]

    def clients(self) -> npt.NDArray[np.uint8]:
        """An address of every network as rows of 16 bytes (IPv4, mapped)."""
        out = np.zeros((len(self.metro), 16), np.uint8)
        out[:, 10:12] = 0xFF
        number = (20 << 24) + np.arange(len(self.metro), dtype=np.int64) * 1024 + 9
        out[:, 12:] = number.astype(">u4").view(np.uint8).reshape(-1, 4)
        return out

    def prefixes(self) -> npt.NDArray[np.uint8]:
        """The announced /22 of every network as rows of 17 bytes."""
        address = self.clients()
        address[:, 15] = 0
        return np.concatenate([address, np.full((len(address), 1), 96 + 22, np.uint8)], axis=1)


def build(seed: int, size: Size) -> Layout:
    """The ground that this seed stands for."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 1])))
    metro_lat, metro_lon = rng.uniform(36, 58, size.metros), rng.uniform(-9, 28, size.metros)
    weight = 1.0 / (np.arange(size.metros) + 3.0)
    isp_weight = _shares(1.0 / (np.arange(size.isps) + 2.0))
    names, site_metro, site_isp = _sites(rng, size, isp_weight)
    site_lat = metro_lat[site_metro] + rng.uniform(-0.15, 0.15, len(names))
    site_lon = metro_lon[site_metro] + rng.uniform(-0.15, 0.15, len(names))
    metro = rng.choice(size.metros, size.networks, p=weight / weight.sum()).astype(np.int32)
    isp = rng.choice(size.isps, size.networks, p=isp_weight).astype(np.int32)
    popularity = _shares(1.0 / (rng.permutation(size.networks) + size.networks * 0.05))
    lat = metro_lat[metro] + rng.uniform(-0.3, 0.3, size.networks)
    lon = metro_lon[metro] + rng.uniform(-0.3, 0.3, size.networks)
    hops, km = _reach(metro, isp, lat, lon, site_metro, site_isp, site_lat, site_lon)
    candidate, near_hops, near_km = _ranked(hops, km)
    local = (site_metro[candidate] == metro[:, None]) & (candidate >= 0)
    peak = sums(candidate[:, 0], popularity, len(names)) * float(size.viewers)
    peak *= float((CLASS_SHARE * BITRATE_BPS).sum())
    metro_peak = sums(site_metro, peak, size.metros)
    site, port, disk = _appliances(rng, size, peak, metro_peak[site_metro], site_isp)
    site_port = sums(site, port, len(names))
    room = np.where(np.arange(len(names)) % 20 == 7, 0.7, 1.0)[:, None] * _LINK_ROOM
    within = np.arange(len(site)) - np.searchsorted(site, site)
    return Layout(
        size, metro, isp, lat, lon, popularity,
        candidate, near_hops, near_km, _LAST_MILE_US + _US_PER_KM * near_km.astype(np.int64), local,
        names, site_metro, site_isp, site_lat, site_lon,
        [f"{names[at]}-a{nth:02d}" for at, nth in zip(site.tolist(), within.tolist(), strict=True)],
        site, port, disk, port / _BPS_PER_CONNECTION,
        (site_port[:, None] * room).reshape(-1).round(),
    )  # fmt: skip


def _shares(weight: npt.NDArray[Any]) -> F64:
    """Weights as shares of their sum."""
    share: F64 = weight / weight.sum()
    return share


def _sites(rng: np.random.Generator, size: Size, isp_weight: F64) -> tuple[list[str], I32, I32]:
    """Exchanges and embedded sites of each metro, the latter inside its largest ISPs by lot."""
    names, metro, isp = [], [], []
    for at in range(size.metros):
        inside = np.sort(rng.choice(size.isps, size.embedded, replace=False, p=isp_weight))
        for nth in range(size.exchanges):
            names.append(f"m{at:02d}-ix{nth}")
            metro.append(at)
            isp.append(-1)
        for one in inside.tolist():
            names.append(f"m{at:02d}-isp{one}")
            metro.append(at)
            isp.append(one)
    return names, np.array(metro, np.int32), np.array(isp, np.int32)


def _reach(
    metro: I32, isp: I32, lat: F64, lon: F64,
    site_metro: I32, site_isp: I32, site_lat: F64, site_lon: F64,
) -> tuple[I64, I64]:  # fmt: skip
    """AS hops (_UNHEARD: no route) and kilometres of every (network, site)."""
    here = metro[:, None] == site_metro[None, :]
    exchange = np.broadcast_to(site_isp[None, :] < 0, here.shape)
    own = (isp[:, None] == site_isp[None, :]) & here
    hops = np.where(own, 1, np.where(exchange, np.where(here, 2, 3), _UNHEARD))
    place, spot = points(lat, lon), points(site_lat, site_lon)
    km = np.stack(
        [distance_km(np.broadcast_to(one, place.shape), place) for one in spot], axis=1
    ).astype(np.int64)
    return hops, km


def _ranked(hops: I64, km: I64) -> tuple[I32, I32, I32]:
    """(candidate, hops, km) by rank, as wide as the network that hears most needs."""
    order = np.lexsort((np.broadcast_to(np.arange(km.shape[1]), km.shape), km, hops), axis=1)
    hops, km = (np.take_along_axis(column, order, axis=1) for column in (hops, km))
    heard = (hops < _UNHEARD) & ~((hops == 3) & (np.cumsum(hops == 3, axis=1) > _FAR))
    width = int(heard.sum(axis=1).max())
    candidate = np.where(heard, order, -1)
    ranked = (column[:, :width].astype(np.int32) for column in (candidate, hops, km))
    return next(ranked), next(ranked), next(ranked)


def _appliances(
    rng: np.random.Generator, size: Size, peak: F64, metro_peak: F64, site_isp: I32
) -> tuple[I32, F64, F64]:
    """(site, port_bps, disk_bps) of every appliance."""
    bought_for = rng.uniform(*_BOUGHT_FOR, len(peak))
    embedded = np.flatnonzero(site_isp >= 0)
    bought_for[rng.permutation(embedded)[:: _SMALL_EVERY // 2]] = _TOO_SMALL
    wanted = peak / bought_for + np.where(site_isp < 0, 0.15, 0.02) * metro_peak
    exact = np.sqrt(wanted) / np.sqrt(wanted).sum() * (size.appliances - 3 * len(peak))
    count = np.floor(exact).astype(np.int64)
    left = size.appliances - 3 * len(peak) - int(count.sum())
    count[np.argsort(count - exact, kind="stable")[:left]] += 1
    count += 3
    site = np.repeat(np.arange(len(peak), dtype=np.int32), count)
    model = rng.integers(len(_PORT), size=len(site))
    share = _PORT[model] / sums(site, _PORT[model], len(peak))[site]
    port = np.maximum(np.round(wanted[site] * share / _STEP_BPS), 1.0) * _STEP_BPS
    return site, port, port * _DISK[model]
