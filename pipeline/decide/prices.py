"""Prices of sites that prove a flow to be optimal, in integers (the idea is in exact.py).

Rule: by Bellman and Ford, from above: a full node begins at the price of overflow; then again and
again a node costs no more than the cheapest way to pass one unit on from it (what a row that is
served there would pay elsewhere, price included, less what it pays here), and a full site no more
than its cheapest node; what has room costs nothing. Where that comes to rest are the greatest
prices that could do. They do if every row is served where cost + price is least and what overflows
has at least the price of overflow; if not, the flow is not optimal.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.decide.transport import (
    CLASSES,
    I64,
    Bools,
    Excess,
    Transport,
    by_site,
    loads_of,
    nearest_loads,
    overflow_cost,
)


@dataclass(frozen=True, slots=True)
class Prices:
    """What one more unit would cost: site int64[S], node int64[S * 3]. `none`: a price from which
    on there is no room anywhere."""

    site: I64
    node: I64
    none: int


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of sites and nodes: whether they are full, the price of overflow there (0 with room), and of
    nodes the least their class's limit must add."""

    full_site: Bools
    full: Bools
    out_site: I64
    out: I64
    least: I64


def prices_of(
    part: Transport, flow: I64, arcs: I64 | None = None, big: int | None = None
) -> tuple[Prices, I64] | None:
    """Prices that prove `flow` to be optimal among flows on `arcs` alone (ascending, each row's
    first among them; all unless given), and the arcs of the part that are cheaper by them than what
    their rows pay: none where it is optimal for the part. None if it is not optimal among `arcs`.
    `big`: what overflow costs, where the caller knows it."""
    big = overflow_cost(part) if big is None else big
    allowed = Excess.of(part, nearest_loads(part))
    load = loads_of(part, flow)
    over = Excess.of(part, load)
    if not _within(part, flow, allowed, over):
        return None
    # A way out that is never taken stands in for overflow where that is used up.
    none = 8 * big
    known = np.zeros(len(load), np.bool_)
    known[part.node] = True
    full = known & (load >= part.room_class)
    full_site = known.reshape(-1, CLASSES).any(axis=1) & (by_site(load) >= part.room_site)
    bounds = _Bounds(
        full_site,
        full,
        np.where(full_site, np.where(over.site < allowed.site, big, none), 0),
        np.where(full, np.where(over.node < allowed.node, big, none), 0),
        np.where(over.node > 0, big, 0),
    )
    looked_at, carried = (part, flow) if arcs is None else (part.only(arcs), flow[arcs])
    found = _greatest(looked_at, carried, bounds, 4 * none)
    if found is None or (found[0] < np.where(over.site > 0, big, 0)).any():
        return None
    prices = Prices(*found, big)
    if arcs is None:
        return prices, np.empty(0, np.int64)
    paid = np.minimum.reduceat(looked_at.cost + prices.node[looked_at.node], looked_at.offsets[:-1])
    asked = part.cost + prices.node[part.node]
    return prices, np.flatnonzero(asked < np.repeat(paid, np.diff(part.offsets)))


def proven(part: Transport, flow: I64, prices: Prices) -> bool:
    """Whether these prices, which prove some flow to be optimal, prove this one as well."""
    allowed = Excess.of(part, nearest_loads(part))
    load = loads_of(part, flow)
    over = Excess.of(part, load)
    if not _within(part, flow, allowed, over):
        return False
    paid = part.cost + prices.node[part.node]
    least = np.repeat(np.minimum.reduceat(paid, part.offsets[:-1]), np.diff(part.offsets))
    of_class = prices.node - np.repeat(prices.site, CLASSES)
    right = (
        (flow == 0) | (paid == least),
        (of_class == 0) | (load >= part.room_class),
        (prices.site == 0) | (by_site(load) >= part.room_site),
        (of_class <= prices.none) | (over.node == allowed.node),
        (prices.site <= prices.none) | (over.site == allowed.site),
        (of_class >= prices.none) | (over.node == 0),
        (prices.site >= prices.none) | (over.site == 0),
    )
    return all(bool(each.all()) for each in right)


def _within(part: Transport, flow: I64, allowed: Excess, over: Excess) -> bool:
    """Whether everybody is served, and nothing above its limit that need not be."""
    served = np.add.reduceat(flow, part.offsets[:-1])
    if (flow < 0).any() or (served != part.supply).any():
        return False
    return not ((over.node > allowed.node).any() or (over.site > allowed.site).any())


def _greatest(part: Transport, flow: I64, bounds: _Bounds, far: int) -> tuple[I64, I64] | None:
    """The greatest prices of sites and nodes, where they prove that nobody is better served
    elsewhere."""
    site, node = bounds.out_site, np.repeat(bounds.out_site, CLASSES) + bounds.out
    carrying = np.flatnonzero(flow)
    row = np.repeat(np.arange(len(part.supply)), np.diff(part.offsets))[carrying]
    where, paid = part.node[carrying], part.cost[carrying]
    for _ in range(len(node) + 2):
        cheapest = np.minimum.reduceat(part.cost + node[part.node], part.offsets[:-1])
        leave = np.full(len(node), far, np.int64)
        np.minimum.at(leave, where, cheapest[row] - paid)
        of_site = np.minimum(
            bounds.out_site, (leave - bounds.least).reshape(-1, CLASSES).min(axis=1)
        )
        of_site = np.where(bounds.full_site, of_site, 0)
        base = np.repeat(of_site, CLASSES)
        of_node = np.where(bounds.full, np.minimum(leave, base + bounds.out), base)
        if (of_site < 0).any():
            return None
        if (of_node == node).all() and (of_site == site).all():
            best = (paid + node[where] == cheapest[row]).all()
            return (site, node) if best and (node - base >= bounds.least).all() else None
        site, node = of_site, of_node
    return None
