"""The appliances: how many at each site, how large, and what they serve; and the sites' links.

Idea: a fleet is bought for its peak. Each site gets capacity for the demand that nearest-first
would give it at its region's busiest hour, divided by the utilisation it should then show, about a
half; a few sites are bought too small, so that there is something to spill.
Rule: appliances are dealt to sites by demand (square root, so that small sites are not down to
one); within a site there are models of different size. Links follow their site, a few are tight.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.sim.networks import IX, Ground, Sites

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

VOD, LIVE, GAME = 1, 2, 4
OK, DRAINING, FILLING, FAILED = range(4)
#: What of an appliance's capacity takes new viewers in each state of service.
USABLE = np.array([1.0, 0.0, 0.5, 0.0])
_PEAK_UTILISATION = (0.42, 0.68)
_HOT_UTILISATION = (0.9, 1.1)
_HOT_SHARE = 0.08
_STEP_BPS = 10_000_000
_MODELS = np.array([1.0, 1.0, 2.0])


@dataclass(frozen=True, slots=True)
class Plant:
    """Columns over appliances (sorted by site), and links. `site_start`: first appliance of each
    site, and one past the last."""

    names: list[str]
    site: I32
    site_start: I64
    clusters: list[str]
    capacity_bps: I64
    serves: npt.NDArray[np.uint8]
    links: list[str]
    link_site: I32
    link_capacity_bps: I64


def build(rng: np.random.Generator, ground: Ground, appliances: int, site_peak_bps: F64) -> Plant:
    """Appliances and links for sites whose nearest viewers ask `site_peak_bps` at their peak."""
    sites = ground.sites
    count = _deal(appliances, np.sqrt(site_peak_bps + site_peak_bps.mean() * 0.05))
    start = np.concatenate([[0], np.cumsum(count)])
    site = np.repeat(np.arange(count.size, dtype=np.int32), count)
    within = np.arange(site.size) - start[site]
    target = rng.uniform(*_PEAK_UTILISATION, size=count.size)
    hot = rng.random(count.size) < _HOT_SHARE
    target[hot] = rng.uniform(*_HOT_UTILISATION, size=int(hot.sum()))
    wanted = np.maximum(site_peak_bps / target, site_peak_bps.mean() * 0.1)
    model = _MODELS[rng.integers(_MODELS.size, size=site.size)]
    share = model / np.bincount(site, weights=model)[site]
    steps = np.maximum(np.round(wanted[site] * share / _STEP_BPS), 1)
    capacity = steps.astype(np.int64) * _STEP_BPS
    links, link_site, link_capacity = _links(
        rng, sites, np.bincount(site, weights=capacity).astype(np.float64)
    )
    width = len(str(int(count.max())))
    names = [
        f"{sites.names[at]}-a{number + 1:0{width}d}"
        for at, number in zip(site.tolist(), within.tolist(), strict=True)
    ]
    # a cluster is what is managed together: large sites have several
    clusters = [
        f"{sites.names[at]}-c{number // 12 + 1}"
        for at, number in zip(site.tolist(), within.tolist(), strict=True)
    ]
    return Plant(
        names, site, start, clusters, capacity, _serves(sites, site, within, count),
        links, link_site, link_capacity,
    )  # fmt: skip


def _deal(total: int, weight: F64) -> I64:
    """`total` whole things by weight, at least one each; largest remainder."""
    exact = weight / weight.sum() * (total - weight.size)
    count = np.floor(exact).astype(np.int64)
    left = total - weight.size - int(count.sum())
    count[np.argsort(count - exact, kind="stable")[:left]] += 1
    dealt: I64 = count + 1
    return dealt


def _serves(sites: Sites, site: I32, within: I64, count: I64) -> npt.NDArray[np.uint8]:
    """Games are served by half of an exchange's appliances; the last of many is for VOD."""
    serves = np.full(site.size, VOD | LIVE, dtype=np.uint8)
    game = (sites.kind[site] == IX) & (within * 2 < count[site])
    serves[game] = VOD | LIVE | GAME
    last = (count[site] > 6) & (within == count[site] - 1)
    serves[last] = VOD
    return serves


def _links(
    rng: np.random.Generator, sites: Sites, site_capacity: F64
) -> tuple[list[str], I32, I64]:
    names, at, capacity = [], [], []
    room = np.where(rng.random(len(sites.names)) < 0.05, 0.7, 1.2) * site_capacity
    for number, (name, kind) in enumerate(zip(sites.names, sites.kind.tolist(), strict=True)):
        many = 2 if kind == IX else 1
        for link in range(many):
            names.append(f"{name}-{'port' if kind == IX else 'up'}{link + 1}")
            at.append(number)
            steps = max(1, round(room[number] / many / _STEP_BPS))
            capacity.append(steps * _STEP_BPS)
    return names, np.array(at, dtype=np.int32), np.array(capacity, dtype=np.int64)
