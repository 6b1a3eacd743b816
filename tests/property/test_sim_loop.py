"""Conservation in the closed loop: no viewer and no byte comes from or goes to nowhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.sim.loop import knee
from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import CLASSES
from pipeline.sim.loop.policies.two_choices import chances
from pipeline.sim.loop.reports import Reporter
from pipeline.sim.loop.run import POLICIES, run
from pipeline.sim.loop.scenario import Fault, load, names
from tests.loopworld import by_hand, quiet, settled, small

_LOADS = arrays(np.float64, 20, elements=st.floats(0, 50))
FAULTS = [
    Fault("site_loss", 5, 40, {"sites": 1}),
    Fault("link_cut", 5, 40, {"sites": 2, "left": 0.2}),
    Fault("slow_disk", 5, 40, {"left": 0.1}),
    Fault("peer_flap", 5, 40, {"sites": 2, "isp": 0, "down_s": 4, "up_s": 6}),
    Fault("flash_crowd", 5, 40, {"metros": 1, "times": 20, "rise_s": 10}),
    Fault("lying_report", 5, 40, {"every": 3, "failing": 0.7}),
    Fault("upgrade", 5, 40, {"drain_s": 3, "off_s": 4}),
    Fault("isp_shift", 5, 40, {"isp": 0, "to_isp": 1, "share": 0.5, "over_s": 10}),
]


@given(_LOADS)
def test_more_asked_is_never_served_better(load: np.ndarray) -> None:
    load = np.sort(load)
    for falling in (knee.served(load), knee.fits(load), -knee.refused(load)):
        assert (np.diff(falling) <= 1e-12).all()
    assert (np.diff(knee.first_byte_ms(load)) >= 0).all()
    below = load <= knee.KNEE
    assert (knee.served(load)[below] == 1.0).all()


@given(_LOADS)
def test_goodput_grows_to_the_knee_and_falls_beyond(load: np.ndarray) -> None:
    load = np.sort(load)
    sent = knee.delivered(load)
    assert np.allclose(sent, knee.served(load) * load)
    assert (np.diff(sent[load <= knee.FULL]) >= 0).all()
    assert (np.diff(sent[load >= knee.FULL]) <= 0).all()
    assert (sent[load > knee.FULL] >= knee.FLOOR).all()


@settings(deadline=None, max_examples=20)
@given(fault=st.sampled_from(FAULTS), seed=st.integers(0, 1000))
def test_viewers_are_watching_waiting_or_gone(fault: Fault, seed: int) -> None:
    layout = small(seed)
    world, table = settled(layout, quiet(fault), seed)
    rng, crowd = np.random.default_rng(seed), world.crowd
    for second in range(60):
        if second % 7 == 0:  # a new table, with networks that it does not name
            share = rng.random(table.share.shape) ** 4 * (layout.candidate >= 0)[:, None, :]
            share /= share.sum(axis=2, keepdims=True)
            share[rng.random(len(share)) < 0.05] = 0
            weight = rng.random(len(layout.site))
            weight /= np.bincount(layout.site, weight)[layout.site]
            table = Followed(share, weight)
        world.step(second, table)
        assert crowd.came - crowd.left == pytest.approx(crowd.present, rel=1e-9)
        assert crowd.drift() < 1e-6 * crowd.present
        assert crowd.seated.min() > -1e-6
        assert crowd.at.min() > -1e-6
        assert crowd.waiting.min() > -1e-6


@settings(deadline=None, max_examples=10)
@given(fault=st.sampled_from(FAULTS), seed=st.integers(0, 1000))
def test_bytes_of_appliances_links_and_viewers_are_the_same(fault: Fault, seed: int) -> None:
    world, table = settled(small(seed), quiet(fault), seed)
    for second in range(45):
        seen = world.step(second, table)
        total = seen.delivered_bps.sum()
        assert seen.egress_bps.sum() == pytest.approx(total, rel=1e-9)
        assert seen.link_bps.sum() == pytest.approx(total, rel=1e-9)
        room = world.layout.link_bps * seen.conditions.link
        assert (seen.link_bps <= room * (1 + 1e-9)).all()


def test_the_bytes_of_the_heartbeats_are_those_delivered() -> None:
    world, table = settled(small(), quiet())
    reporter, delivered, told = Reporter(world, 1, 0), 0.0, 0
    reporter._send = lambda second, kind, columns, lossy=True: (  # type: ignore[method-assign]
        sent.append(int(columns["bytes"].sum())) if kind == "plays" else None
    )
    sent: list[int] = []
    for second in range(60):
        seen = world.step(second, table)
        reporter.measure(second, seen)
        delivered += float(seen.delivered_bps.sum()) / 8
    told = sum(sent) + float(reporter._owed.sum()) / 8
    assert told == pytest.approx(delivered, rel=1e-9)


@given(load=arrays(np.float64, 6, elements=st.sampled_from([0.1, 0.5, 0.5, 0.9])),
       drawn=arrays(np.bool_, 6))  # fmt: skip
def test_chances_of_two_choices_are_those_of_all_pairs(load: np.ndarray, drawn: np.ndarray) -> None:
    layout, given = by_hand([[1e9] * 6], [[0]]), load
    who = np.flatnonzero(drawn) if drawn.any() else np.arange(6)
    load = load if drawn.any() else np.zeros(6)  # nobody is heard: nothing is known
    wins = np.zeros(6)
    for one in who:
        for other in who:
            if one != other:
                wins[one] += 1.0 if load[one] < load[other] else 0.5 * (load[one] == load[other])
    expected = wins / wins.sum() if len(who) > 1 else np.isin(np.arange(6), who).astype(float)
    assert np.allclose(chances(layout, given, drawn), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_figures(policy: str) -> None:
    scenario = quiet(Fault("site_loss", 20, 60, {"sites": 1}), length_s=90)
    first, second = (run(small(), scenario, policy, 3) for _ in range(2))
    assert first == second
    assert first.columns != run(small(4), scenario, policy, 4).columns


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_sends_everybody_somewhere_on_a_quiet_day(policy: str) -> None:
    layout = small()
    world, table = settled(layout, quiet())
    decides, reporter = POLICIES[policy](layout), Reporter(world, 1, 1_750_000_000_000)
    for second in range(25):
        table = decides.decide(reporter.news(second))
        reporter.measure(second, world.step(second, table))
        assert np.allclose(table.share.sum(axis=2), 1.0)
        used = np.zeros(layout.sites, bool)
        used[layout.candidate[table.share.any(axis=1)]] = True
        weight = np.bincount(layout.site, table.weight)
        assert np.allclose(weight[used], 1.0)
        assert (np.isclose(weight, 1.0) | (weight == 0.0)).all()
        assert (table.share[np.broadcast_to(
            (layout.candidate < 0)[:, None, :], table.share.shape
        )] == 0).all()  # fmt: skip


def test_arrivals_do_not_depend_on_the_policy() -> None:
    layout, scenario = small(), load("flash_crowd")
    assert set(names()) >= {scenario.name}
    worlds = [settled(layout, scenario)[0] for _ in range(2)]
    tables = [
        settled(layout, scenario)[1],
        Followed(np.zeros((len(layout.metro), CLASSES, layout.candidate.shape[1])),
                 np.zeros(len(layout.site))),
    ]  # fmt: skip
    for second in range(20):
        for world, table in zip(worlds, tables, strict=True):
            world.step(second, table)
    assert np.allclose(worlds[0].crowd.hoped, worlds[1].crowd.hoped)
    assert worlds[0].crowd.came == worlds[1].crowd.came
