from io import StringIO
from typing import Any

from rich.console import Console

from pipeline.cli.demostate import DemoState
from pipeline.cli.live import LiveView, PlainView
from schemas.registry import (
    APPLIANCE_HEALTH,
    LB_WEIGHTS,
    PLAY_EVENTS,
    STEERING_DEAD_LETTERS,
    STEERING_EPOCHS,
    STEERING_VERDICTS,
)

Told = tuple[str, dict[str, Any]]


def epoch(partition: int, cut: int, at_ms: int, rows: int = 100, behind_ms: int = 12) -> Told:
    fields = {"partition": partition, "cut": cut, "at_ms": at_ms, "behind_ms": behind_ms}
    inputs = [{"topic": "play.events", "rows": rows, "folded": rows, "refused": 0}]
    return STEERING_EPOCHS.name, {**fields, "prefixes": 50, "groups": 4, "inputs": inputs}


def site(name: str, **states: str) -> Told:
    appliances = [
        {"appliance": each, "weight": 1, "state": state, "reason": "r"}
        for each, state in states.items()
    ]
    return LB_WEIGHTS.name, {"site": name, "region": "eu", "appliances": appliances}


def health(appliance: str, egress_bps: int, capacity_bps: int = 100) -> Told:
    fields = {"appliance": appliance, "egress_bps": egress_bps, "capacity_bps": capacity_bps}
    return APPLIANCE_HEALTH.name, fields


def verdict(entity: str, to_state: str = "DOWN") -> Told:
    return STEERING_VERDICTS.name, {
        "at_ms": 1_700_000_000_000,
        "cut": 7,
        "kind": "appliance",
        "entity": entity,
        "from_state": "UP",
        "to_state": to_state,
        "reason": "reported_failed",
        "detail": "service FAILED",
    }


WORLD = [
    epoch(0, 7, 10_000),
    epoch(1, 9, 10_500, behind_ms=700),
    site("ams", a1="UP", a2="DOWN"),
    site("fra", f1="UP"),
    health("a1", 90),
    health("a2", 0),
    health("f1", 96),
    verdict("a2"),
    (STEERING_DEAD_LETTERS.name, {"reason": "too_old", "count": 3}),
    (PLAY_EVENTS.name, {"anything": 1}),
]


def state_of(told: list[Told]) -> DemoState:
    state = DemoState()
    for topic, record in told:
        state.apply(topic, record)
    return state


def test_sites_are_busiest_first_with_what_their_appliances_report() -> None:
    found = state_of(WORLD).sites()
    assert [(each.site, each.utilisation) for each in found] == [("fra", 0.96), ("ams", 0.45)]
    assert found[1].states == {"DOWN": 1, "UP": 1}


def test_appliances_are_counted_by_state_and_dead_letters_by_reason() -> None:
    state = state_of(WORLD)
    assert state.appliances_by_state() == {"UP": 2, "DOWN": 1}
    assert state.dead_letters == {"too_old": 3}
    assert (state.prefixes, state.behind_ms, state.rows) == (100, 700, 200)


def test_a_repeated_or_older_epoch_counts_once() -> None:
    state = state_of([epoch(0, 7, 1000), epoch(0, 7, 1000), epoch(0, 6, 900)])
    assert (state.cuts, state.rows, state.cells[0].cut) == (1, 100, 7)


def test_the_rate_is_that_of_the_last_seconds_by_the_cuts_own_time() -> None:
    told = [epoch(0, cut, cut * 1000, rows=500) for cut in range(1, 61)]
    assert 500 <= state_of(told).rows_per_s <= 600
    quiet = [epoch(0, cut, cut * 1000, rows=0) for cut in range(61, 71)]
    assert state_of([*told, *quiet]).rows_per_s == 0
    assert DemoState().rows_per_s == 0


def test_the_plain_line_says_all_of_it() -> None:
    assert state_of(WORLD).plain_line() == (
        "cut 9 in 2 cells, 700 ms behind; 200 records/s; 100 prefixes; 2 sites, busiest 96%; "
        "appliances: 2 UP, 1 DOWN; 3 dead letters; last: a2 DOWN (reported_failed)"
    )
    assert "appliances: none yet" in DemoState().plain_line()


def drawn(told: list[Told], width: int = 120, height: int = 40) -> str:
    console = Console(file=StringIO(), width=width, height=height, force_terminal=False)
    view = LiveView(console, hint="edgesteer who 203.0.113.7 --why")
    view.progress("running")
    for topic, record in told:
        view.apply(topic, 0, record)
    console.print(view.render())
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue()


def test_the_live_view_shows_cells_sites_states_verdicts_and_dead_letters() -> None:
    shown = drawn(WORLD)
    for words in (
        "cell 1 cut 9 700 ms",
        "fra",
        "96%",
        "45%",
        "1 down",
        "too_old 3",
        "reported_failed",
        "edgesteer who",
    ):
        assert words in shown


def test_the_live_view_fits_small_and_large_terminals() -> None:
    many = [site(f"site-{number:03}", **{f"a{number}": "UP"}) for number in range(200)]
    told = [*WORLD, *many, *(verdict(f"a{number}") for number in range(60))]
    told += [epoch(cell, 5, 10_000) for cell in range(2, 8)]
    for width, height in ((80, 24), (120, 40), (200, 60)):
        lines = drawn(told, width, height).splitlines()
        assert len(lines) <= height + 3
        assert max(map(len, lines)) <= width


def test_before_the_first_cut_the_view_says_what_is_being_started() -> None:
    assert "running" in drawn([])


def test_the_plain_view_speaks_now_and_then_and_only_when_there_is_something() -> None:
    said: list[str] = []
    view = PlainView(every_s=1000, tell=said.append)
    view.refresh()
    assert said == []
    for topic, record in WORLD:
        view.apply(topic, 0, record)
    view.refresh()
    view.refresh()
    assert len(said) == 1
