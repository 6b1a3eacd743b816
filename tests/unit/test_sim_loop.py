"""The closed loop by hand: scenario files, what faults do, and each policy in a tiny world."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.errors import ConfigError, UsageError
from pipeline.sim.loop import crowd
from pipeline.sim.loop.crowd import Crowd, Followed, Means
from pipeline.sim.loop.faults import DRAINING, FAILED, HOLD_S, Script, busiest
from pipeline.sim.loop.layout import BITRATE_BPS, CLASSES, PEERING, QUICK, Layout, build
from pipeline.sim.loop.meter import AFTER_S, CALM, COLUMNS, relief
from pipeline.sim.loop.plots import svg
from pipeline.sim.loop.policies.availability import Availability
from pipeline.sim.loop.policies.detour import Detour, detours
from pipeline.sim.loop.policies.edgesteer import Edgesteer
from pipeline.sim.loop.policies.nearest import Nearest
from pipeline.sim.loop.policies.two_choices import EXPIRY_S, TwoChoices
from pipeline.sim.loop.reports import News, Reporter
from pipeline.sim.loop.run import POLICIES, run
from pipeline.sim.loop.scenario import FAULTS, Fault, load, names, read
from pipeline.sim.loop.score import as_json, best_of, losses
from tests.loopworld import by_hand, heard, plays, quiet, settled, small

GBPS = 1_000_000_000
GOOD = """
title = "T"
says = "S"
length_s = 600
warm_up_s = 60
load = 1.0

[[fault]]
kind = "site_loss"
from_s = 60
to_s = 300
sites = 1
"""


# -- scenario files


def test_every_kind_of_fault_is_in_a_scenario_of_the_package() -> None:
    scenarios = [load(name) for name in names()]
    assert {fault.kind for one in scenarios for fault in one.faults} == set(FAULTS)
    assert all(one.title and one.says for one in scenarios)
    assert names()[0] == "steady_day"


@pytest.mark.parametrize("name", names())
def test_there_is_time_to_recover_after_each_fault(name: str) -> None:
    scenario = load(name)
    assert all(fault.to_s < scenario.length_s for fault in scenario.faults)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("load = 1.0", 'load = "much"'), 6, "load: a number is needed"),
        (("load = 1.0", "load = 9"), 6, "load = 9: from 0.05 to 2"),
        (("load = 1.0", ""), 1, "load: a number is needed"),
        (("load = 1.0", "load = 1.0\nlaod = 2"), 7, "laod: not known here"),
        (('title = "T"', "title = 3"), 2, "title: a text is needed"),
        (("sites = 1", "sites = 0"), 12, "sites = 0: from 1 to 50"),
        (("sites = 1", ""), 8, "sites: a number is needed"),
        (("sites = 1", "site = 1"), 12, "site: not known here"),
        (("site_loss", "siteloss"), 9, "a fault is one of"),
        (("to_s = 300", "to_s = 30"), 11, "after from_s (60)"),
        (("to_s = 300", "to_s = 900"), 11, "within length_s (600)"),
        (("[[fault]]", "[fault]"), 8, "two brackets"),
        (("load = 1.0", "load = "), 6, "Invalid"),
    ],
)
def test_a_mistake_is_reported_with_its_line(change: tuple[str, str], line: int, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read("x", GOOD.replace(*change), "x.toml")
    assert str(caught.value).startswith(f"x.toml:{line}: ")
    assert says in str(caught.value)


def test_the_second_fault_is_found_in_its_own_lines() -> None:
    second = GOOD.partition("[[fault]]")[2].replace("sites = 1", "sites = 99")
    with pytest.raises(ConfigError, match=r"^x\.toml:18: sites = 99"):
        read("x", f"{GOOD}\n[[fault]]{second}", "x.toml")


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="steady_day"):
        load("steady_dya")


# -- faults show in the world


def test_a_lost_site_is_dead_at_once_and_unrouted_after_the_hold_time() -> None:
    fault = Fault("site_loss", 10, 300, {"sites": 1})
    layout = small()
    script, lost = Script(layout, quiet(fault)), busiest(layout, 1)
    for second, alive, session in (
        (9, True, True), (10, False, True), (9 + HOLD_S, False, True), (10 + HOLD_S, False, False),
        (300, True, True),
    ):  # fmt: skip
        now = script.at(second)
        assert now.alive[layout.site == lost[0]].all() == alive
        assert now.session[lost].all() == session
        assert now.alive[layout.site != lost[0]].all()


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        (Fault("link_cut", 10, 20, {"sites": 1, "left": 0.3}), lambda now: now.link.min() == 0.3),
        (Fault("slow_disk", 10, 20, {"left": 0.2}), lambda now: (now.disk == 0.2).sum() == 8),
        (
            Fault("bad_cable", 10, 20, {"every": 4, "loss": 0.02}),
            lambda now: (now.cable == 0.02).sum() == 10,
        ),
        (
            Fault("noisy_link", 10, 20, {"sites": 2, "loss": 0.03}),
            lambda now: (now.noise == 0.03).sum() == 2,
        ),
        (
            Fault("peer_flap", 10, 20, {"sites": 1, "isp": 0, "down_s": 4, "up_s": 6}),
            lambda now: (~now.session).sum() == 1,
        ),
        (
            Fault("flash_crowd", 10, 20, {"metros": 1, "times": 10, "rise_s": 5}),
            lambda now: now.extra.sum() > 0 and now.demand.max() == 10,
        ),
        (
            Fault("lying_report", 10, 20, {"every": 4, "failing": 0.5}),
            lambda now: (now.failing > 0).sum() == 10,
        ),
        (Fault("report_loss", 10, 20, {"share": 0.6}), lambda now: (~now.heard).sum() == 24),
        (Fault("play_loss", 10, 20, {"share": 0.25}), lambda now: (~now.played).sum() == 10),
        (
            Fault("upgrade", 10, 60, {"drain_s": 5, "off_s": 5}),
            lambda now: (now.service == DRAINING).sum() == 8,
        ),
        (
            Fault("isp_shift", 10, 20, {"isp": 0, "to_isp": 1, "share": 0.4, "over_s": 5}),
            lambda now: now.leaving.max() > 0 and now.coming.sum(axis=0).min() == pytest.approx(1),
        ),
    ],
    ids=lambda one: one.kind if isinstance(one, Fault) else "",
)
def test_a_fault_shows_while_it_lasts(fault: Fault, shows: Callable[..., bool]) -> None:
    script = Script(small(), quiet(fault))
    assert not shows(script.at(9))
    assert shows(script.at(10))
    assert not shows(script.at(60))


def test_an_upgrade_takes_every_appliance_once() -> None:
    layout = small()
    script = Script(layout, quiet(Fault("upgrade", 10, 110, {"drain_s": 5, "off_s": 5})))
    gone = sum((~script.at(second).alive).astype(int) for second in range(120))
    assert (gone == 5).all()


def test_a_flash_crowd_brings_so_many_times_the_live_viewers_and_leaves() -> None:
    fault = Fault("flash_crowd", 30, 120, {"metros": 1, "times": 8, "rise_s": 30})
    layout = small()
    world, table = settled(layout, quiet(fault))
    there, seen = layout.metro < 1, {}
    for second in range(190):
        world.step(second, table)
        seen[second] = world.crowd.hoped[there, 1].sum()
    assert seen[60] == pytest.approx(8 * seen[29], rel=0.1)
    assert seen[119] == pytest.approx(8 * seen[29], rel=0.1)
    assert seen[185] == pytest.approx(seen[29], rel=0.25)


def test_a_shift_between_isps_moves_the_share() -> None:
    fault = Fault("isp_shift", 10, 400, {"isp": 0, "to_isp": 1, "share": 0.4, "over_s": 60})
    layout = small()
    world, table = settled(layout, quiet(fault))
    before = [world.crowd.hoped[layout.isp == isp].sum() for isp in (0, 1)]
    for second in range(75):
        world.step(second, table)
    after = [world.crowd.hoped[layout.isp == isp].sum() for isp in (0, 1)]
    assert after[0] == pytest.approx(0.6 * before[0], rel=0.05)
    assert sum(after) == pytest.approx(sum(before), rel=0.02)


def test_a_dead_appliance_is_silent_and_a_lost_report_does_not_arrive() -> None:
    layout = small()
    fault = Fault("report_loss", 0, 500, {"share": 0.6})
    world, table = settled(layout, quiet(fault, Fault("site_loss", 0, 500, {"sites": 1})))
    reporter, heard_of = Reporter(world, 1, 0), set()
    for second in range(40):
        told = reporter.news(second).get("health")
        heard_of |= set() if told is None else set(told["appliance"].tolist())
        reporter.measure(second, world.step(second, table))
    now = world.script.at(5)
    assert heard_of == set(np.flatnonzero(now.alive & now.heard).tolist())


# -- viewers, by hand


def fine(layout: Layout) -> Means:
    count, shape = len(layout.site), layout.candidate.shape
    return Means(np.ones(count), np.ones(count), np.ones(shape), np.ones(shape, bool))


def test_of_a_changed_share_exactly_the_difference_moves() -> None:
    layout = by_hand([[GBPS], [GBPS]], [[0, 1]])
    viewers = Crowd(layout)
    share = np.zeros((1, CLASSES, 2))
    share[0, :, 0] = 1.0
    viewers.settle(np.array([[900.0, 0.0]]), Followed(share, np.ones(2)))
    asked = Followed(np.broadcast_to([2 / 3, 1 / 3], (1, CLASSES, 2)), np.ones(2))
    viewers.ask_again(asked, fine(layout), 1.0)
    assert viewers.seated[0, 0] == pytest.approx([899, 1])  # 300 have to, in 300 s
    assert viewers.moved == pytest.approx(1)
    for _ in range(3000):
        viewers.ask_again(asked, fine(layout), 1.0)
    assert viewers.seated[0, 0] == pytest.approx([600, 300], abs=0.1)
    assert viewers.at[0] == pytest.approx([600, 300], abs=0.1)


def test_who_is_cut_off_waits_tries_again_and_gives_up() -> None:
    layout = by_hand([[GBPS, GBPS]], [[0]])
    viewers, table = Crowd(layout), Followed(np.ones((1, CLASSES, 1)), np.array([0.5, 0.5]))
    viewers.settle(np.array([[1000.0, 0.0]]), table)
    viewers.cut_off(np.array([False, True]), np.ones((1, 1), bool))
    assert viewers.waiting[0, 0] == pytest.approx(500)
    half = Means(np.array([0.0, 1.0]), np.ones(2), np.ones((1, 1)), np.ones((1, 1), bool))
    viewers.find_seats(table, half)
    # half of them try in this second, half of those at the dead one
    assert viewers.waiting[0, 0] == pytest.approx(500 - 500 / crowd.RETRY_S / 2)
    assert viewers.failed == pytest.approx(viewers.tried / 2)
    waiting = viewers.waiting[0, 0]
    viewers.leave(half, 1.0)
    assert viewers.waiting[0, 0] == pytest.approx(waiting * (1 - crowd.WEARY))
    assert viewers.lost[0] == pytest.approx(waiting * crowd.WEARY)


# -- policies, by hand


def test_nearest_follows_routes_alone() -> None:
    layout = by_hand([[GBPS, 3 * GBPS], [GBPS]], [[0, 1], [1, 0]])
    nearest = Nearest(layout)
    table = nearest.decide(heard(layout, service=[FAILED] * 3))
    assert table.share[0, 0].tolist() == [1, 0]
    assert table.weight.tolist() == [0.25, 0.75, 1.0]
    gone = {"network": np.array([0]), "candidate": np.array([0]), "hops": np.array([1]),
            "up": np.array([False])}  # fmt: skip
    table = nearest.decide(News(0, {"routes": [gone]}))
    assert table.share[:, 0].tolist() == [[0, 1], [1, 0]]


def test_availability_takes_one_bad_sample_for_the_truth_and_one_good() -> None:
    layout = by_hand([[100 * GBPS, 100 * GBPS], [100 * GBPS]], [[0, 1]])
    policy = Availability(layout)
    for _ in range(6):
        table = policy.decide(heard(layout))
    assert table.weight.tolist() == [0.5, 0.5, 1.0]
    full = [99 * GBPS, 50 * GBPS, 50 * GBPS]  # 1 Gbit/s free where 1.75 are asked for
    for _ in range(6):
        table = policy.decide(heard(layout, egress_bps=full))
    assert table.weight.tolist() == [0.0, 1.0, 1.0]
    for _ in range(6):
        table = policy.decide(heard(layout, ttfb_ms=[20, 1000, 20], egress_bps=full))
    assert table.share[0, 0].tolist() == [0, 1]  # the group has none left: the next group
    for _ in range(6):
        table = policy.decide(heard(layout))
    assert table.share[0, 0].tolist() == [1, 0]


def test_availability_without_any_answer_serves_nobody() -> None:
    layout = by_hand([[GBPS], [GBPS]], [[0, 1]])
    policy = Availability(layout)
    for _ in range(20):
        table = policy.decide(News(0))
    assert not table.share.any()


def test_two_choices_gives_the_less_loaded_the_pairs_it_wins() -> None:
    layout = by_hand([[GBPS, GBPS, GBPS]], [[0]])
    policy = TwoChoices(layout)
    table = policy.decide(heard(layout, load=[0.2, 0.5, 0.9]))
    assert table.weight == pytest.approx([2 / 3, 1 / 3, 0])
    table = policy.decide(heard(layout, load=[0.5, 0.5, 0.9]))
    assert table.weight == pytest.approx([0.5, 0.5, 0])
    table = policy.decide(heard(layout, service=[0, DRAINING, 0], load=[0.5, 0.1, 0.9]))
    assert table.weight == pytest.approx([1, 0, 0])
    for _ in range(EXPIRY_S + 1):
        table = policy.decide(News(0))
    assert table.weight == pytest.approx([1 / 3] * 3)  # nobody is heard: all the same


def test_detours_are_made_of_what_is_too_much_and_no_more() -> None:
    site = np.array([[0, 1], [0, 1], [0, 1], [0, 1]])
    link = np.full((4, 2), 2)
    routed = np.ones((4, 2), bool)
    demand, limit = np.array([4.0, 4.0, 4.0, 1.0]), np.array([9.5, 5.0, 100.0])
    assert detours(routed, site, link, demand, limit).tolist() == [1, 0, 0, 0]
    routed[0, 1] = False
    assert detours(routed, site, link, demand, limit).tolist() == [0, 1, 0, 0]
    links = np.array([[2, 3]] * 4)
    limit = np.array([99.0, 99.0, 12.5, 3.0])  # the first one's link is full, room for 3 behind it
    assert detours(routed, site, links, demand, limit).tolist() == [0, 0, 0, 1]


def test_detour_computes_every_thirty_seconds_from_two_minutes_of_demand() -> None:
    layout = by_hand([[GBPS], [GBPS]], [[0, 1], [0, 1]])
    policy, octets = Detour(layout), GBPS // 8 * 6 // 10
    for second in range(1, 61):
        news = heard(layout)
        news.kinds["plays"] = [plays([0, 1], [octets, octets])]
        table = policy.decide(news)
        moved = table.share[:, 0, 1].sum()
        assert moved == (1 if second >= 30 else 0)


def test_the_plane_sends_the_excess_of_a_site_to_the_next() -> None:
    layout = by_hand([[10 * GBPS], [10 * GBPS]], [[0, 1]] * 4)
    policy = Edgesteer(layout)
    per_s = 12 * GBPS // 8 // 4  # each second a quarter of 12 Gbit/s in all
    for second in range(80):
        news = heard(layout, 1_750_000_000_000 + second * 1000)
        told = news.kinds["health"][0]
        count = np.full(2, 0)
        told |= {
            "at_ms": np.full(2, news.now_ms), "cpu": np.full(2, 0.5), "disk": np.full(2, 0.5),
            "connections": count, "requests": count, "errors": count, "retransmits": count,
        }  # fmt: skip
        four = np.arange(4)
        news.kinds["plays"] = [
            {
                "network": four, "class": np.zeros(4, int), "appliance": four // 3,
                "at_ms": np.full(4, news.now_ms), "bytes": np.full(4, per_s),
                "bitrate_bps": np.full(4, 8 * per_s),
                "event": np.ones(4, int), "stall_ms": np.zeros(4, int),
            }
        ]  # fmt: skip
        table = policy.decide(news)
    # 95 % of 10 Gbit/s stay at the first site, within what shares and buckets resolve
    assert table.share[:, 0, 0].mean() == pytest.approx(9.5 / 12, abs=0.02)
    assert np.allclose(table.share[:, 0].sum(axis=1), 1)
    assert table.weight.tolist() == [1.0, 1.0]


# -- the score


def values(**given: float | None) -> dict[str, float | None]:
    even = {column.name: 1.0 for column in COLUMNS}
    return {**even, **given}


def test_ours_is_compared_with_the_best_of_each_column() -> None:
    scores = {
        "a": {
            "edgesteer": values(nearest=98.5, relief_s=None, overload_min=1.005, spread=0.0),
            "nearest": values(nearest=99.9, relief_s=None, overload_min=1.0),
            "detour": values(nearest=90.0, relief_s=30.0, overload_min=3.0),
        }
    }
    found = {one.column: (one.by, one.worst) for one in losses(scores)}
    assert found == {"nearest": ("nearest", False), "relief_s": ("detour", True)}
    told = as_json(scores, 1, "quick")
    assert (told["worst_in"], told["beyond_one_percent"]) == (1, 2)
    overload = next(one for one in COLUMNS if one.name == "overload_min")
    assert best_of(overload, {"x": 1.0, "y": 1.0}) == []
    assert best_of(overload, {"x": 1.0, "y": 2.0, "z": 1.0}) == ["x", "z"]


def test_the_picture_holds_every_scenario_and_no_script() -> None:
    scenario = quiet(Fault("site_loss", 20, 60, {"sites": 1}), length_s=80)
    runs = [run(small(), scenario, policy, 1) for policy in ("nearest", "two_choices")]
    drawn = svg([scenario], runs)
    assert drawn.count("<polyline") == 6
    assert "<script" not in drawn
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_relief_comes_when_routes_lead_away_from_the_dead_site() -> None:
    scenario = quiet(Fault("site_loss", 60, 500, {"sites": 1}), length_s=520)
    columns = run(small(), scenario, "nearest", 1).columns
    assert HOLD_S <= columns["relief_s"] <= HOLD_S + 60
    assert columns["unserved_min"] > 0


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ((), 0.0),
        ((70, 75), 15.0),
        ((70, 180), 120.0),
        ((70, 290), None),
        ((150 + AFTER_S,), 0.0),
        ((149 + AFTER_S,), 90.0 + AFTER_S),
    ],
)
def test_relief_is_from_what_the_fault_brought(bad: tuple[int, ...], found: float | None) -> None:
    """A fault from 60 to 150: what goes wrong by itself long after it is not its doing."""
    harmed = np.full(300, CALM / 2)
    if bad:
        harmed[bad[0] : bad[-1] + (len(bad) == 1)] = 10 * CALM
    assert relief(harmed, np.zeros(300), Fault("link_cut", 60, 150)) == found


def test_the_world_is_bought_for_its_peak() -> None:
    layout = build(1, QUICK)
    asked = layout.size.viewers * float((np.array([0.94, 0.06]) * BITRATE_BPS).sum())
    assert 1.5 < layout.port_bps.sum() / asked < 2.5


def test_ours_stands_first_in_the_table() -> None:
    assert next(iter(POLICIES)) == "edgesteer"


def test_what_a_bad_cable_loses_is_sent_again_and_missed() -> None:
    layout = small()
    world, table = settled(
        layout, quiet(Fault("bad_cable", 0, 60, {"every": 4, "loss": 0.05}), load=0.4)
    )
    reporter = Reporter(world, 1, 0)
    bad = np.arange(len(layout.site)) % 4 == 0
    for second in range(10):
        seen = world.step(second, table)
        reporter.measure(second, seen)
    assert (seen.means.quality[bad] < 0.7).all()
    assert seen.means.quality[~bad].min() > 0.9
    health = [reporter.news(second).get("health") for second in range(3, 11)]
    told = np.concatenate([one["appliance"] for one in health if one is not None])
    again = np.concatenate([one["retransmits"] / one["requests"] for one in health if one])
    assert (again[bad[told]] > 30).all()
    assert (again[~bad[told]] < 1).all()


def test_what_a_noisy_link_loses_is_probed_and_missed_behind_it_alone() -> None:
    layout = small()
    world, table = settled(
        layout, quiet(Fault("noisy_link", 0, 60, {"sites": 1, "loss": 0.05}), load=0.4)
    )
    reporter = Reporter(world, 1, 0)
    seen = world.step(0, table)
    reporter.measure(0, seen)
    behind = world.link_of == busiest(layout, 1)[0] * 2 + PEERING
    assert (seen.means.reach[behind] < 0.7).all()
    assert (seen.means.reach[~behind] == 1).all()
    paths = reporter.news(1).get("paths")
    assert paths is not None
    lossy = behind[paths["network"], paths["candidate"]]
    assert lossy.any()
    assert (paths["loss"][lossy] >= 0.05).all()
    assert (paths["loss"][~lossy] <= 0.01).all()
