"""The exact solution against an independent solver: successive shortest paths, in integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.decide import exact, lp
from pipeline.decide.assignment import NO_ROOM
from pipeline.decide.exact import Optimum, optimum
from pipeline.decide.prices import proven
from pipeline.decide.rounding import shares_of
from pipeline.decide.transport import CLASSES, TOTAL, Transport, nearest_flow, overflow_cost

FAR = 10**18


class Network:
    """Minimum-cost flow by Bellman and Ford, one augmentation after the other: slow and plain."""

    def __init__(self) -> None:
        self.arcs: list[list[int]] = []  # from, to, capacity left, cost; arc ^ 1 is its reverse
        self.names: dict[object, int] = {}

    def arc(self, start: object, end: object, capacity: int, cost: int) -> None:
        a, b = (self.names.setdefault(name, len(self.names)) for name in (start, end))
        self.arcs += [[a, b, capacity, cost], [b, a, 0, -cost]]

    def least_cost(self, source: object, sink: object) -> tuple[int, int]:
        """(flow, cost) of as much as goes through."""
        flow = cost = 0
        start, end = self.names[source], self.names[sink]
        while True:
            distance, came = [FAR] * len(self.names), [-1] * len(self.names)
            distance[start], changed = 0, True
            while changed:
                changed = False
                for number, (a, b, left, price) in enumerate(self.arcs):
                    if left and distance[a] < FAR and distance[a] + price < distance[b]:
                        distance[b], came[b], changed = distance[a] + price, number, True
            if distance[end] == FAR:
                return flow, cost
            path, at = [], end
            while at != start:
                path.append(came[at])
                at = self.arcs[came[at]][0]
            amount = min(self.arcs[number][2] for number in path)
            for number in path:
                self.arcs[number][2] -= amount
                self.arcs[number ^ 1][2] += amount
            flow, cost = flow + amount, cost + amount * distance[end]


def nearest_load(case: Transport) -> np.ndarray:
    load = np.zeros(len(case.room_class), np.int64)
    np.add.at(load, case.node[case.offsets[:-1]], case.supply)
    return load


def independent(case: Transport) -> int:
    net, load, big = Network(), nearest_load(case).tolist(), overflow_cost(case)
    for row, supply in enumerate(case.supply.tolist()):
        net.arc("from", ("row", row), supply, 0)
        for arc in range(case.offsets[row], case.offsets[row + 1]):
            node = ("node", int(case.node[arc]))
            net.arc(("row", row), node, supply, int(case.cost[arc]))
    for node, room in enumerate(case.room_class.tolist()):
        site = ("site", node // CLASSES)
        net.arc(("node", node), site, room, 0)
        net.arc(("node", node), site, max(load[node] - room, 0), big)
    for site, room in enumerate(case.room_site.tolist()):
        there = sum(load[site * CLASSES : site * CLASSES + CLASSES])
        net.arc(("site", site), "to", room, 0)
        net.arc(("site", site), "to", max(there - room, 0), big)
    flow, cost = net.least_cost("from", "to")
    assert flow == int(case.supply.sum())
    return cost


def whole_flow(case: Transport, best: Optimum) -> np.ndarray:
    flow = nearest_flow(case)
    flow[best.arcs] = best.flow
    return flow


def overflow_of(case: Transport, flow: np.ndarray) -> int:
    load = np.zeros(len(case.room_class), np.int64)
    np.add.at(load, case.node, flow)
    over = np.maximum(load - case.room_class, 0).sum()
    by_site = load.reshape(-1, CLASSES).sum(axis=1)
    return int(over + np.maximum(by_site - case.room_site, 0).sum())


def cost_of(case: Transport, flow: np.ndarray) -> int:
    return int((flow * case.cost).sum()) + overflow_cost(case) * overflow_of(case, flow)


def made(seed: int) -> Transport:
    """A small world: some of them with room, some without, with few and with many ties."""
    rng = np.random.default_rng(seed)
    sites, rows = int(rng.integers(1, 7)), int(rng.integers(1, 11))
    klass = rng.integers(0, CLASSES, rows)
    ranked = [rng.permutation(sites)[: rng.integers(1, sites + 1)] for _ in range(rows)]
    count = [len(each) for each in ranked]
    step = int(rng.choice([2, 4, 50]))
    unit = rng.choice([1, 1, 3, 10, 7_777], rows)
    supply = unit * TOTAL
    room = int(supply.sum() * rng.choice([0.2, 0.4, 0.8, 1.5, 3.0]))
    cost = [np.cumsum(rng.integers(0, step, each)) for each in count]
    held = np.zeros(sum(count), np.int64)
    starts = np.concatenate([[0], np.cumsum(count)])
    held[starts[:-1] + rng.integers(0, count)] = TOTAL
    return Transport(
        offsets=starts,
        node=np.concatenate([each * CLASSES + k for each, k in zip(ranked, klass, strict=True)]),
        cost=np.concatenate(cost),
        held=held,
        key=rng.integers(0, 2**63, rows).astype(np.uint64),
        supply=supply.astype(np.int64),
        room_class=rng.integers(0, room + 1, sites * CLASSES),
        room_site=rng.integers(0, room + 1, sites),
    )


SEEDS = st.integers(0, 2**32)


def overloaded(case: Transport) -> bool:
    return overflow_of(case, nearest_flow(case)) > 0


def test_the_objective_is_that_of_an_independent_solver_on_thousands_of_worlds() -> None:
    solved = 0
    for seed in range(3000):
        case = made(seed)
        if overloaded(case):
            best = optimum(case)
            assert best is not None
            assert cost_of(case, whole_flow(case, best)) == independent(case), seed
            solved += 1
    assert solved > 2000


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_the_flow_is_whole_and_within_what_was_there_before(seed: int) -> None:
    case = made(seed)
    assume(overloaded(case))
    best = optimum(case)
    assert best is not None
    flow = whole_flow(case, best)
    assert flow.min() >= 0
    assert (np.add.reduceat(flow, case.offsets[:-1]) == case.supply).all()
    load = np.zeros(len(case.room_class), np.int64)
    np.add.at(load, case.node, flow)
    before = nearest_load(case)
    assert (load <= np.maximum(case.room_class, before)).all()
    sums = (each.reshape(-1, CLASSES).sum(axis=1) for each in (load, before))
    now, then = sums
    assert (now <= np.maximum(case.room_site, then)).all()


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_the_prices_prove_the_optimum_of_the_whole(seed: int) -> None:
    """Rows that were never looked at have no cheaper place either, by cost + price."""
    case = made(seed)
    assume(overloaded(case))
    best = optimum(case)
    assert best is not None
    flow, price = whole_flow(case, best), best.prices.node
    paid = case.cost + price[case.node]
    least = np.repeat(np.minimum.reduceat(paid, case.offsets[:-1]), np.diff(case.offsets))
    assert (paid[flow > 0] == least[flow > 0]).all()
    load = np.zeros(len(price), np.int64)
    np.add.at(load, case.node, flow)
    room = np.minimum(
        case.room_class - load,
        np.repeat(case.room_site - load.reshape(-1, CLASSES).sum(axis=1), CLASSES),
    )
    assert (price >= 0).all()
    assert not price[room > 0].any()


def test_a_price_is_what_one_unit_less_of_room_costs() -> None:
    compared = 0
    for seed in range(1000):
        case = made(seed)
        best = optimum(case) if overloaded(case) else None
        if best is None or overflow_of(case, whole_flow(case, best)):
            continue
        for site in np.flatnonzero(case.room_site).tolist():
            less = case.room_site.copy()
            less[site] -= 1
            tighter = replace(case, room_site=less)
            after = optimum(tighter)
            assert after is not None
            flow = whole_flow(tighter, after)
            if not overflow_of(tighter, flow):
                more = cost_of(tighter, flow) - cost_of(case, whole_flow(case, best))
                assert more == best.prices.site[site], seed
                compared += more > 0
    assert compared > 50


@settings(max_examples=300, deadline=None)
@given(SEEDS, st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order_of_the_rows(seed: int, random: object) -> None:
    case = made(seed)
    assume(overloaded(case))
    order = list(range(len(case.supply)))
    random.shuffle(order)  # type: ignore[attr-defined]
    arcs = np.concatenate([np.arange(case.offsets[r], case.offsets[r + 1]) for r in order])
    shuffled = replace(
        case,
        offsets=np.concatenate([[0], np.cumsum(np.diff(case.offsets)[order])]),
        node=case.node[arcs],
        cost=case.cost[arcs],
        held=case.held[arcs],
        key=case.key[order],
        supply=case.supply[order],
    )
    one, other = optimum(case), optimum(shuffled)
    assert one is not None
    assert other is not None
    assert (whole_flow(case, one)[arcs] == whole_flow(shuffled, other)).all()
    assert (one.prices.node == other.prices.node).all()


@pytest.mark.parametrize("other", [{"simplex_strategy": 4}, {"presolve": "on", "random_seed": 7}])
def test_whichever_optimum_the_solver_meets_first_the_answer_is_the_same(
    other: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other last bits on another CPU could do at most."""
    cases = [case for case in map(made, range(600)) if overloaded(case)]
    found = [optimum(case) for case in cases]
    monkeypatch.setattr(lp, "_OPTIONS", {**lp._OPTIONS, **other})
    for case, one in zip(cases, found, strict=True):
        again = optimum(case)
        assert one is not None
        assert again is not None
        assert (one.flow == again.flow).all()
        assert (one.prices.node == again.prices.node).all()


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_a_guess_says_where_to_look_first_and_nothing_of_the_answer(seed: int) -> None:
    case = made(seed)
    assume(overloaded(case))
    count = np.diff(case.offsets)  # a later place costs more, as in a table
    rank = np.arange(len(case.node)) - np.repeat(case.offsets[:-1], count)
    case = replace(case, cost=case.cost * 20 + rank)
    one = optimum(case)
    assert one is not None
    rng = np.random.default_rng(seed)
    wild = rng.choice([0, 1, 19, 20, 400, NO_ROOM], len(case.room_class))
    for guess in (np.zeros_like(wild), one.prices.node, one.prices.node // 2, wild):
        other = optimum(case, guess)
        assert other is not None
        assert (whole_flow(case, one) == whole_flow(case, other)).all()
        assert proven(other.part, other.flow, other.prices)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_what_proves_one_optimum_proves_no_other_flow_that_costs_more(seed: int) -> None:
    case = made(seed)
    assume(overloaded(case))
    best = optimum(case)
    assert best is not None
    part, rng = best.part, np.random.default_rng(seed)
    assert proven(part, best.flow, best.prices)
    row = int(rng.integers(len(part.supply)))
    arcs = np.arange(part.offsets[row], part.offsets[row + 1])
    moved = best.flow.copy()
    moved[arcs] = 0
    moved[rng.choice(arcs)] = part.supply[row]
    if proven(part, moved, best.prices):
        assert cost_of(part, moved) == cost_of(part, best.flow)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_rounding_keeps_sums_and_makes_no_overflow_where_there_is_none(seed: int) -> None:
    case = made(seed)
    assume(overloaded(case))
    best = optimum(case)
    assert best is not None
    shares = shares_of(best)
    assert shares.min() >= 0
    assert (np.add.reduceat(shares, best.part.offsets[:-1]) == TOTAL).all()
    owner = np.repeat(np.arange(len(best.part.supply)), np.diff(best.part.offsets))
    flow = shares * (best.part.supply // TOTAL)[owner]
    crumbs = int((best.part.supply // TOTAL).max())
    more = overflow_of(best.part, flow) - overflow_of(best.part, best.flow)
    assert more <= 2 * crumbs * len(best.part.room_site)


def transport(
    rows: list[tuple[int, list[tuple[int, int]]]],
    room: list[int],
    held: list[int] | None = None,
) -> Transport:
    """VOD only. rows: (supply, [(site, cost)]); room by site."""
    count = [len(arcs) for _, arcs in rows]
    return Transport(
        offsets=np.concatenate([[0], np.cumsum(count)]),
        node=np.array([site * CLASSES for _, arcs in rows for site, _ in arcs]),
        cost=np.array([cost for _, arcs in rows for _, cost in arcs]),
        held=np.array(held if held else [0] * sum(count)),
        key=np.arange(len(rows), dtype=np.uint64),
        supply=np.array([supply for supply, _ in rows]) * TOTAL,
        room_class=np.repeat(np.array(room) * TOTAL, CLASSES),
        room_site=np.array(room) * TOTAL,
    )


def test_a_chain_is_found_where_only_the_neighbour_has_somebody_to_pass_on() -> None:
    """Site 0 is 4 over and knows only site 1, which is full and can move to site 2."""
    case = transport([(10, [(0, 0), (1, 5)]), (10, [(1, 0), (2, 3)]), (1, [(2, 0)])], [6, 10, 100])
    best = optimum(case)
    assert best is not None
    assert (whole_flow(case, best) // TOTAL).tolist() == [6, 4, 6, 4, 1]
    assert best.prices.site.tolist() == [8, 3, 0]


@pytest.mark.parametrize("moved", [0, 1])
def test_of_equally_good_rows_the_one_that_is_away_already_stays_away(moved: int) -> None:
    rows = [(10, [(0, 0), (1, 1)]), (10, [(0, 0), (1, 1)])]
    held = [0, TOTAL, TOTAL, 0] if moved == 0 else [TOTAL, 0, 0, TOTAL]
    case = transport(rows, [10, 100], held)
    best = optimum(case)
    assert best is not None
    flow = whole_flow(case, best).reshape(2, 2) // TOTAL
    assert flow[moved].tolist() == [0, 10]
    assert flow[1 - moved].tolist() == [10, 0]


def test_who_lives_far_from_the_overload_is_not_looked_at() -> None:
    rows = [(10, [(0, 0), (1, 1)]), (10, [(1, 0), (2, 1)]), (10, [(2, 0), (0, 1)])]
    best = optimum(transport(rows, [8, 100, 10]))
    assert best is not None
    assert best.arcs.tolist() == [0, 1]


def test_a_solution_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "WORK_MAX", 0)
    assert optimum(transport([(10, [(0, 0), (1, 1)])], [8, 100])) is None
