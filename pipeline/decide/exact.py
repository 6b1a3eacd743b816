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
vertex of the LP is integral, and integers can prove it optimal (pipeline/decide/prices.py), by
prices (of a site: what one more unit would cost there, at the margin; of a node: the same with its
class's limit on top) with which each row is served where cost + price is least, what has room has
no price and what overflows has the price of overflow. There are such prices if and only if the flow
is optimal. They are shortest distances in the residual network, the greatest prices of all that do,
and so they depend on the problem and not on the vertex that was found.

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
same. It is a second LP over the rows' equally cheap nodes alone, whose costs are those preferences.

Only moves are variables (pipeline/decide/moves.py): everybody nearest is the slack basis, dual
feasible, from which the dual simplex needs about as many iterations as there are moves. And only
such as may be worth it: prices hardly change from one solution to the next, so the last ones say
where to look first: nodes that had a price begin inside, and the variables are the arcs that were
cheapest. The proof looks at all arcs; those that are cheaper by the new prices come in, and it is
solved again, most often not once. A wrong guess costs time and changes nothing: the prices prove
the flow, and they leave one (but for ties between equal costs of one row, which a table has not).
Of a region with 100 priced nodes a solution takes 8 ms instead of 20.

Source: Ahuja, Magnanti and Orlin, Network Flows (1993), chapters 9 and 11: residual networks,
potentials, integrality. Rejected: trusting the solver's floats (other last bits elsewhere);
successive shortest paths in NumPy (a Python loop over hundreds of augmentations); perturbed costs
in one LP (they need more bits than a double has beside the cost of overflow).
"""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.decide.lp import Programme, Solver
from pipeline.decide.moves import Moves
from pipeline.decide.prices import Prices, prices_of, proven
from pipeline.decide.transport import (
    CLASSES,
    I64,
    Bools,
    Rows,
    Transport,
    by_site,
    nearest_loads,
    overflow_cost,
)

#: Simplex iterations x columns of one solution, about half a second; a bound, so that a cut ends.
#: In a cell with 200 sites and 5,000 groups, 20 of the sites overloaded, 2 % of it are used; with
#: 60 of them and 2 % of room left in the whole region it is passed (docs/benchmarks.md).
WORK_MAX = 300_000_000
#: So often prices are guessed before all arcs are looked at.
_GUESSES_MAX = 4


@dataclass(frozen=True, slots=True)
class Optimum:
    """arcs: those of the rows that were looked at, int64[a] into the problem's; part: these rows
    alone, with the room that the others leave; flow int64[a]: of each arc of `part`; prices: of
    all."""

    arcs: I64
    part: Transport
    flow: I64
    prices: Prices


def optimum(whole: Rows, guess: I64 | None = None) -> Optimum | None:
    """The optimum, or None where the solver's iterations did not suffice. `guess` int64[S * 3]:
    prices that may be about right; they say where to look first."""
    solver, home, load = Solver(), whole.home, nearest_loads(whole)
    inside = _overloaded(whole, load)
    if guess is not None:
        inside |= guess > 0
    while True:
        rows = np.flatnonzero(inside[home])
        part, arcs = _rows_of(whole, rows, load)
        big = overflow_cost(part)
        prices = _prices(solver, part, big, guess)
        if prices is None:
            return None
        inside |= prices.node > 0
        if np.count_nonzero(inside[home]) == len(rows):
            break
        guess = prices.node
    flow = _choice(solver, part, big, prices)
    return None if flow is None else Optimum(arcs, part, flow, prices)


def _prices(solver: Solver, part: Transport, big: int, guess: I64 | None) -> Prices | None:
    """The prices of a part: over the arcs that may be worth it by the prices guessed, and those
    that turn out to be cheaper; over all of them without a guess, or after some that were wrong."""
    worth = np.ones(len(part.node), np.bool_)
    if guess is not None:
        worth = _cheap(part, guess)
    for tried in range(_GUESSES_MAX + 1):
        if tried == _GUESSES_MAX:
            worth[:] = True
        arcs = np.flatnonzero(worth)
        moves = Moves.of(part.only(arcs), big)
        found = _solved(solver, moves, moves.programme())
        if found is None:
            return None
        flow = np.zeros(len(part.node), np.int64)
        flow[arcs] = found
        proof = prices_of(part, flow, arcs, big)
        if proof is None:
            return None
        prices, cheaper = proof
        if not len(cheaper):
            return prices
        worth |= _cheap(part, prices.node)
    return None


def _choice(solver: Solver, part: Transport, big: int, prices: Prices) -> I64 | None:
    """The one optimum that ties are broken for, given the prices of them all."""
    arcs = np.flatnonzero(_cheap(part, prices.node))
    moves = Moves.tied(part.only(arcs), big)
    found = _solved(solver, moves, moves.ties(prices))
    if found is None:
        return None
    flow = np.zeros(len(part.node), np.int64)
    flow[arcs] = found
    return flow if proven(part, flow, prices) else None


def _cheap(part: Transport, price: I64) -> Bools:
    """Which arcs are cheapest of their row by cost + price; the first of each row counts."""
    paid = part.cost + price[part.node]
    least = np.minimum.reduceat(paid, part.offsets[:-1])
    cheap: Bools = paid <= np.repeat(least, np.diff(part.offsets))
    cheap[part.offsets[:-1]] = True
    return cheap


def _solved(solver: Solver, moves: Moves, programme: Programme) -> I64 | None:
    """The flow on the arcs of the programme's part; None where iterations did not suffice."""
    found = solver.solve(programme, WORK_MAX // (len(moves.arc) + 1))
    return None if found is None else moves.flow(found)


def _overloaded(whole: Rows, load: I64) -> Bools:
    """Nodes above a limit with this load, everybody nearest."""
    over: Bools = load > whole.room_class
    over |= np.repeat(by_site(load) > whole.room_site, CLASSES)
    return over


def _rows_of(whole: Rows, rows: I64, load: I64) -> tuple[Transport, I64]:
    """Some rows alone, and which arcs they have; the others are at home and leave what room they
    leave. `load`: that of all at home."""
    part, arcs = whole.some(rows)
    others = load - nearest_loads(part)
    part = replace(
        part,
        room_class=np.maximum(whole.room_class - others, 0),
        room_site=np.maximum(whole.room_site - by_site(others), 0),
    )
    return part, arcs
