"""The cheapest way to serve all demand within the sites' limits, exactly.

Idea: everybody at the nearest site is the cheapest of all, as long as it fits. Where it does not,
only a neighbourhood of the overload can be worth changing. It is solved as a transportation problem
and grows until its surroundings have prices of nothing.

The problem: demand of row r (a group's class) goes to the sites of its ranking, at a cost a unit
that does not decrease along it. Node (s, k), class k at site s, takes no more than room_class, and
a site takes no more than room_site over its classes. Load for which there is no room anywhere is
overflow: allowed at every node and site up to what everybody-nearest would put above its limit, so
that nothing is above its limit which was not before, and dearer than any chain of moves, so that
there is no more of it than must be. All numbers are integers.

It is a network: row -> node -> site -> sink, overflow being arcs beside those of the limits. So a
vertex of the LP is integral, and integers can prove it optimal: `prices_of` looks for prices (of a
site: what one more unit would cost there, at the margin; of a node: the same with its class's limit
on top) with which each row is served where cost + price is least, what has room has no price and
what overflows has the price of overflow. There are such prices if and only if the flow is optimal.
They are shortest distances in the residual network, the greatest prices of all that do, and so they
depend on the problem and not on the vertex that was found.

Growing: a row is inside where its nearest node is; nodes begin inside where they are overloaded.
Solve the rows inside, against the room that the others leave at home; nodes outside with a price
come inside, with their rows (they may have to make room: a chain), until no node outside has one.
Then the solution is optimal for the whole: the prices prove it. Rows inside have their proof; a row
outside is at its nearest node, whose price is nothing, and no other node is cheaper by cost, nor by
cost + price. Limits of nodes outside that bind without a price (filled to the last unit) do not
matter. Rows outside need not be looked at.

Ties: costs are small integers, so there are many optima. Among them the one is taken in which GAME
moves least, then LIVE; then the one nearest to the shares held; then by a hash of group, class and
site, which leaves one: whichever optimum the simplex met first, on whichever CPU, the answer is the
same. It is a second LP over the rows' equally cheap nodes, whose costs are those preferences.

Only moves are variables: everybody nearest is the slack basis, dual feasible, from which the dual
simplex needs about as many iterations as there are moves. A row's sites behind the first one that
cannot fill up, whatever moves there, are left out.

Source: Ahuja, Magnanti and Orlin, Network Flows (1993), chapters 9 and 11: residual networks,
potentials, integrality. Rejected: trusting the solver's floats (other last bits elsewhere);
successive shortest paths in NumPy (a Python loop over hundreds of augmentations); perturbed costs
in one LP (they need more bits than a double has beside the cost of overflow).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.decide.lp import F64, Programme, Solver

CLASSES = 3
TOTAL = 10_000

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

#: Simplex iterations x columns of one solution, about a second; a bound, so that a cut ends. Of a
#: cell with 200 sites, 5,000 groups and 20 sites overloaded it takes less than 1 %; with 60 of them
#: and 2 % of room left in the whole region it is passed (docs/benchmarks.md).
WORK_MAX = 300_000_000


@dataclass(frozen=True, slots=True)
class Transport:
    """R rows with A arcs, and S sites with their nodes s * 3 + class.

    offsets int64[R + 1]: row r has the arcs offsets[r] to offsets[r + 1], at least one, by cost,
    which does not decrease: the first is its nearest; node, cost int64[A]; held int64[A]: the
    share now, in ten-thousandths; key uint64[R]: for ties; supply int64[R], above 0; room_class
    int64[S * 3], room_site int64[S], not below 0."""

    offsets: I64
    node: I64
    cost: I64
    held: I64
    key: U64
    supply: I64
    room_class: I64
    room_site: I64


@dataclass(frozen=True, slots=True)
class Prices:
    """What one more unit would cost: site int64[S], node int64[S * 3]. `none`: a price from which
    on there is no room anywhere."""

    site: I64
    node: I64
    none: int


@dataclass(frozen=True, slots=True)
class Optimum:
    """arcs: those of the rows that were looked at, int64[a] into the problem's; part: these rows
    alone, with the room that the others leave; flow int64[a]: of each arc of `part`; prices: of
    all."""

    arcs: I64
    part: Transport
    flow: I64
    prices: Prices


def optimum(whole: Transport) -> Optimum | None:
    """The optimum, or None where the solver's iterations did not suffice."""
    home = whole.node[whole.offsets[:-1]]
    inside = _overloaded(whole)
    while True:
        rows = np.flatnonzero(inside[home])
        part, arcs = _rows_of(whole, rows, home)
        moves = _Moves.of(part)
        solver = Solver(moves.programme(), WORK_MAX // (len(moves.arc) + 1))
        found = solver.solve()
        prices = None if found is None else prices_of(part, moves.flow(found))
        if prices is None:
            return None
        inside |= prices.node > 0
        if np.count_nonzero(inside[home]) == len(rows):
            break
    found = solver.solve_next(*moves.ties(prices))
    flow = None if found is None else moves.flow(found)
    prices = None if flow is None else prices_of(part, flow)
    if flow is None or prices is None:
        return None
    return Optimum(arcs, part, flow, prices)


def _overloaded(whole: Transport) -> Bools:
    """Nodes above a limit with everybody nearest."""
    load = _loads(whole, nearest_flow(whole))
    over: Bools = load > whole.room_class
    over |= np.repeat(_by_site(load) > whole.room_site, CLASSES)
    return over


def nearest_flow(part: Transport) -> I64:
    """Everybody at the nearest node."""
    flow = np.zeros(len(part.node), np.int64)
    flow[part.offsets[:-1]] = part.supply
    return flow


def _loads(part: Transport, flow: I64) -> I64:
    load = np.zeros(len(part.room_class), np.int64)
    np.add.at(load, part.node, flow)
    return load


def _by_site(load: I64) -> I64:
    total: I64 = load.reshape(-1, CLASSES).sum(axis=1)
    return total


def _rows_of(whole: Transport, rows: I64, home: I64) -> tuple[Transport, I64]:
    """Some rows alone, and which arcs they have; the others are at home and leave what room they
    leave."""
    count = np.diff(whole.offsets)
    chosen = np.zeros(len(count), np.bool_)
    chosen[rows] = True
    arcs = np.flatnonzero(np.repeat(chosen, count))
    others = np.zeros(len(whole.room_class), np.int64)
    np.add.at(others, home[~chosen], whole.supply[~chosen])
    part = Transport(
        offsets=np.concatenate([[0], np.cumsum(count[rows])]),
        node=whole.node[arcs],
        cost=whole.cost[arcs],
        held=whole.held[arcs],
        key=whole.key[rows],
        supply=whole.supply[rows],
        room_class=np.maximum(whole.room_class - others, 0),
        room_site=np.maximum(whole.room_site - _by_site(others), 0),
    )
    return part, arcs


@dataclass(frozen=True, slots=True)
class _Excess:
    """Overflow allowed of nodes and sites: what everybody-nearest puts above their limits."""

    node: I64
    site: I64

    @classmethod
    def of(cls, part: Transport, load: I64) -> "_Excess":
        return cls(
            np.maximum(load - part.room_class, 0),
            np.maximum(_by_site(load) - part.room_site, 0),
        )


def overflow_cost(part: Transport) -> int:
    """More than any chain of moves: it passes each node and site that may fill up once."""
    first = part.cost[part.offsets[:-1]]
    span = int((part.cost[part.offsets[1:] - 1] - first).max(initial=0))
    nodes = np.unique(part.node)
    return (len(nodes) + len(np.unique(nodes // CLASSES)) + 2) * (span + 1)


def prices_of(part: Transport, flow: I64) -> Prices | None:
    """Prices that prove `flow` to be optimal; None if it is not."""
    allowed = _Excess.of(part, _loads(part, nearest_flow(part)))
    load = _loads(part, flow)
    over = _Excess.of(part, load)
    served = np.add.reduceat(flow, part.offsets[:-1])
    if (flow < 0).any() or (served != part.supply).any():
        return None
    if (over.node > allowed.node).any() or (over.site > allowed.site).any():
        return None
    # A way out that is never taken stands in for overflow where that is used up.
    big = overflow_cost(part)
    none = 8 * big
    known = np.zeros(len(load), np.bool_)
    known[part.node] = True
    full = known & (load >= part.room_class)
    full_site = known.reshape(-1, CLASSES).any(axis=1) & (_by_site(load) >= part.room_site)
    out = np.where(full, np.where(over.node < allowed.node, big, none), 0)
    out_site = np.where(full_site, np.where(over.site < allowed.site, big, none), 0)
    least = np.where(over.node > 0, big, 0)
    site = out_site
    node = np.repeat(site, CLASSES) + out
    carrying = np.flatnonzero(flow)
    row = np.repeat(np.arange(len(part.supply)), np.diff(part.offsets))[carrying]
    where, paid = part.node[carrying], part.cost[carrying]
    for _ in range(len(load) + 2):
        cheapest = np.minimum.reduceat(part.cost + node[part.node], part.offsets[:-1])
        leave = np.full(len(load), 4 * none, np.int64)
        np.minimum.at(leave, where, cheapest[row] - paid)
        next_site = np.minimum(out_site, (leave - least).reshape(-1, CLASSES).min(axis=1))
        next_site = np.where(full_site, next_site, 0)
        base = np.repeat(next_site, CLASSES)
        next_node = np.where(full, np.minimum(leave, base + out), base)
        if (next_site < 0).any():
            return None
        same = (next_node == node).all() and (next_site == site).all()
        site, node = next_site, next_node
        if same:
            break
    else:
        return None
    extra = node - np.repeat(site, CLASSES)
    proven = (
        (site >= np.where(over.site > 0, big, 0)).all()
        and (extra >= least).all()
        and (paid + node[where] == cheapest[row]).all()
    )
    return Prices(site, node, big) if proven else None


@dataclass(frozen=True, slots=True)
class _Moves:
    """The programme of a part. Its columns: the arcs `arc` (moves from the row's first arc), then
    overflow of the nodes `over`, then of the sites `over_site`. Its rows: `row` (what a row can
    give), then limits of the nodes `limit` and of the sites `limit_site`."""

    part: Transport
    allowed: _Excess
    load: I64
    arc: I64
    owner: I64
    over: I64
    over_site: I64
    row: I64
    limit: I64
    limit_site: I64

    @classmethod
    def of(cls, part: Transport) -> "_Moves":
        load = _loads(part, nearest_flow(part))
        rows = len(part.supply)
        owner = np.repeat(np.arange(rows), np.diff(part.offsets))
        first = np.zeros(len(part.node), np.bool_)
        first[part.offsets[:-1]] = True

        known = np.zeros(len(load), np.bool_)
        known[part.node] = True

        def may_fill(arcs: I64) -> tuple[Bools, Bools]:
            most = load.copy()
            np.add.at(most, part.node[arcs], part.supply[owner[arcs]])
            bounded = np.minimum(most, np.maximum(part.room_class, load))
            node, site = known & (most >= part.room_class), _by_site(bounded) >= part.room_site
            return node, site & known.reshape(-1, CLASSES).any(axis=1)

        arcs = np.flatnonzero(~first)
        node, site = may_fill(arcs)
        free = ~(node | np.repeat(site, CLASSES))[part.node]
        end = part.offsets[1:].copy()
        np.minimum.at(end, owner[free], np.flatnonzero(free) + 1)
        arcs = arcs[arcs < end[owner[arcs]]]
        node, site = may_fill(arcs)
        allowed = _Excess.of(part, load)
        return cls(
            part=part,
            allowed=allowed,
            load=load,
            arc=arcs,
            owner=owner[arcs],
            over=np.flatnonzero(allowed.node),
            over_site=np.flatnonzero(allowed.site),
            row=np.unique(owner[arcs]),
            limit=np.flatnonzero(node),
            limit_site=np.flatnonzero(site),
        )

    def programme(self) -> Programme:
        """Least cost: of moves against the first arc, and of overflow."""
        part, arcs = self.part, len(self.arc)
        big = overflow_cost(part)
        cost = part.cost[self.arc] - part.cost[part.offsets[self.owner]]
        overflows = len(self.over) + len(self.over_site)
        room = self._room()
        row, column, value = self._matrix()
        return Programme(
            cost=np.concatenate([cost, np.full(overflows, big)]),
            lower=np.zeros(arcs + overflows),
            upper=self._upper(),
            low=np.full(len(room), -np.inf),
            high=room,
            row=row,
            column=column,
            value=value,
        )

    def _upper(self) -> F64:
        given = self.part.supply[self.owner]
        allowed = (self.allowed.node[self.over], self.allowed.site[self.over_site])
        return np.concatenate([given, *allowed]).astype(np.float64)

    def _room(self) -> F64:
        part, load = self.part, self.load
        limit = (part.room_class - load)[self.limit]
        limit_site = (part.room_site - _by_site(load))[self.limit_site]
        return np.concatenate([part.supply[self.row], limit, limit_site]).astype(np.float64)

    def _matrix(self) -> tuple[I64, I64, I64]:
        """Entries (row, column, value): a move takes from its row, adds where it goes and relieves
        the first arc; overflow relieves."""
        part, arcs = self.part, np.arange(len(self.arc))
        to, back = part.node[self.arc], part.node[part.offsets[self.owner]]
        rows, nodes = len(self.row), len(self.row) + len(self.limit)
        at = np.full(len(self.load), -1, np.int64)
        at[self.limit] = rows + np.arange(len(self.limit))
        at_site = np.full(len(part.room_site), -1, np.int64)
        at_site[self.limit_site] = nodes + np.arange(len(self.limit_site))
        overs = len(self.arc) + np.arange(len(self.over))
        overs_site = len(self.arc) + len(self.over) + np.arange(len(self.over_site))
        parts = [
            (np.searchsorted(self.row, self.owner), arcs, 1),
            (at[to], arcs, 1),
            (at[back], arcs, -1),
            (at_site[to // CLASSES], arcs, 1),
            (at_site[back // CLASSES], arcs, -1),
            (at[self.over], overs, -1),
            (at_site[self.over_site], overs_site, -1),
        ]
        row = np.concatenate([each for each, _, _ in parts])
        column = np.concatenate([each for _, each, _ in parts])
        value = np.concatenate([np.full(len(each), sign) for each, _, sign in parts])
        real = row >= 0
        return row[real], column[real], value[real]

    def ties(self, prices: Prices) -> tuple[I64, F64, F64, F64, F64]:
        """Cost, lower, upper, low, high of the programme of the second choice: over the optima
        alone, which are what agrees with the prices."""
        part = self.part
        reduced = part.cost + prices.node[part.node]
        cheapest = np.minimum.reduceat(reduced, part.offsets[:-1])
        first = reduced[part.offsets[:-1]] == cheapest
        upper = self._upper()
        upper[: len(self.arc)] *= (reduced == np.repeat(cheapest, np.diff(part.offsets)))[self.arc]
        extra = prices.node - np.repeat(prices.site, CLASSES)
        paid = np.concatenate([extra[self.over], prices.site[self.over_site]])
        overs = upper[len(self.arc) :]
        lower = np.zeros(len(upper))
        lower[len(self.arc) :] = np.where(paid > prices.none, overs, 0)
        overs[paid < prices.none] = 0
        high = self._room()
        binds = (~first[self.row], extra[self.limit] > 0, prices.site[self.limit_site] > 0)
        low = np.where(np.concatenate(binds), high, -np.inf)
        prefer = _preference(part)
        cost = prefer[self.arc] - prefer[part.offsets[self.owner]]
        return np.concatenate([cost, np.zeros(len(overs), np.int64)]), lower, upper, low, high

    def flow(self, found: I64) -> I64:
        """What each arc of the part carries."""
        flow = nearest_flow(self.part)
        moved = found[: len(self.arc)]
        flow[self.arc] = moved
        np.subtract.at(flow, self.part.offsets[self.owner], moved)
        return flow


def _preference(part: Transport) -> I64:
    """What is disliked of an arc beside its cost: class, then not being held, then the hash. Bits:
    20 for the hash, 14 for ten-thousandths and 2 for a class, with 4 between them, so that a sum
    over some arcs of one does not reach the next, and all of them are exact in a double."""
    away = np.ones(len(part.node), np.int64)
    away[part.offsets[:-1]] = 0
    moved = away * (1 + part.node % CLASSES)
    owner = np.repeat(part.key, np.diff(part.offsets))
    chance = (_mixed(owner ^ _mixed(part.node.astype(np.uint64))) >> np.uint64(44)).astype(np.int64)
    return (moved << 42) + ((TOTAL - part.held) << 24) + chance


def _mixed(key: U64) -> U64:
    """A bijection that spreads (the finalizer of splitmix64)."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))
