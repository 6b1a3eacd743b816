"""The simulated world: the same for the same seed, alike to a real one, and all of it accepted."""

from collections import Counter

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.sim.demand import region_shares
from pipeline.sim.size import SimSize
from pipeline.sim.world import World
from pipeline.wire.address import parse_prefix
from schemas.registry import INPUTS
from tests.sim_plane import SMALL, START_MS, Plane, opening, records, small_world


def run(world: World, seconds: int, every_ms: int = 1000) -> list:
    batches = []
    for now_ms in range(START_MS + every_ms, START_MS + seconds * 1000 + 1, every_ms):
        batches += world.tick(now_ms)
    return batches


def flat(batches: list) -> Counter:
    """Records as they are on the wire, whatever calls they came from."""
    return Counter(
        (rows.topic, rows.region, key, value)
        for rows in batches
        for key, value in zip(rows.keys, rows.values, strict=True)
    )


# -- repeatable


def test_the_same_seed_makes_the_same_world_however_it_is_ticked() -> None:
    one, other = small_world(), small_world()
    assert flat(opening(one)) == flat(opening(other))
    assert flat(run(one, 6, every_ms=100)) == flat(run(other, 6, every_ms=3000))


def test_another_seed_makes_another_world() -> None:
    assert flat(opening(small_world(1))) != flat(opening(small_world(2)))


def test_a_command_changes_nothing_but_what_follows_from_it() -> None:
    quiet, hit = small_world(), small_world()
    hit.command("FAIL", hit.plant.names[0])
    routes = [
        flat([rows for rows in run(world, 5) if rows.topic in ("bgp.routes", "traffic.paths")])
        for world in (quiet, hit)
    ]
    assert routes[0] == routes[1]


# -- accepted


def test_every_topic_is_fed_and_the_plane_refuses_and_notes_nothing() -> None:
    world = small_world()
    plane = Plane(area.id for area in world.ground.regions)
    plane.fold(opening(world), START_MS)
    for second in range(1, 21):
        now_ms = START_MS + second * 1000
        plane.fold(world.tick(now_ms), now_ms)
    assert not plane.refused
    assert not plane.notes
    fed = [topic.name for topic in INPUTS if topic.writer != "workers"]
    assert all(plane.folded[topic] == plane.rows[topic] > 0 for topic in fed)


def test_every_tie_break_has_work_to_do() -> None:
    world = World(1, SimSize(), START_MS)
    plane = Plane(area.id for area in world.ground.regions)
    plane.fold(opening(world), START_MS)
    for second in range(1, 31):
        now_ms = START_MS + second * 1000
        plane.fold(world.tick(now_ms), now_ms)
    used, tiers = Counter(), Counter()
    for cell in plane.cells.values():
        for region in cell.regions.values():
            table = region.table
            tiers[int(table.tier.max())] += 1
            for name in ("med", "rtt_ms", "distance_km"):
                used[name] += int((getattr(table, name) >= 0).sum())
    assert min(used.values()) > 0 and set(used) == {"med", "rtt_ms", "distance_km"}
    assert max(tiers) >= 1, "some sites only hear what covers a prefix"


def test_an_address_of_the_documentation_networks_is_served_in_the_first_region() -> None:
    world = small_world()
    plane = Plane(area.id for area in world.ground.regions)
    plane.fold(opening(world), START_MS)
    first = world.ground.regions[0].id
    held = {
        key for key, _ in plane.cells[plane.place[first]].published_records("steering.prefixes")
    }
    for text in ("203.0.113.0/24", "2001:db8::/32"):
        assert parse_prefix(text) + first.encode() in held


def test_capacity_fits_the_demand_of_the_evening() -> None:
    world = World(1, SimSize(), START_MS)
    use = np.bincount(world.plant.site, world._load) / np.bincount(
        world.plant.site, world.plant.capacity_bps
    )
    europe = use[world.ground.sites.region == 0]
    assert 0.35 < np.median(europe) < 0.75
    assert world.plant.capacity_bps.min() > 0
    assert len(world.plant.names) == 400 and len(set(world.plant.names)) == 400
    assert len(set(world.ground.sites.names)) == 40


def test_a_prefix_is_heard_at_no_more_sites_than_asked_for() -> None:
    def heard(at: int) -> np.ndarray:
        rib = World(1, SimSize(heard_at=at), START_MS).rib
        sites = rib.sessions.site[rib.session_of(np.arange(len(rib)))]
        pairs = np.unique(np.stack([rib.prefix, sites], axis=1), axis=0)
        return np.bincount(pairs[:, 0], minlength=20_000)

    everywhere, few = heard(0), heard(2)
    assert everywhere.max() > 2
    assert np.array_equal(few, np.minimum(everywhere, 2))


# -- viewers


def test_plays_come_at_the_rate_that_was_asked_for() -> None:
    plays = records(run(small_world(), 20), "play.events")
    assert abs(len(plays) - 20 * SMALL.rate) < 0.01 * 20 * SMALL.rate


def test_few_prefixes_have_most_of_the_viewers() -> None:
    world = World(1, SimSize(), START_MS)
    counts = np.sort(np.bincount(world.viewers.prefix, minlength=20_000))[::-1]
    share = np.cumsum(counts) / counts.sum()
    assert 0.35 < share[200] < 0.75, "1 % of the prefixes"
    assert share[5_000] < 0.99


def test_every_client_lies_in_the_prefix_it_came_from() -> None:
    world = World(1, SimSize(), START_MS)
    viewers, prefixes = world.viewers, world.ground.prefixes
    for at in range(0, viewers.prefix.size, 37):
        prefix = viewers.prefix[at]
        own = int(viewers.hi[at]) << 64 | int(viewers.lo[at])
        announced = int(prefixes.hi[prefix]) << 64 | int(prefixes.lo[prefix])
        host = 128 - int(prefixes.length[prefix])
        assert own >> host == announced >> host


def test_a_region_is_busiest_in_its_own_evening() -> None:
    lons, weights = np.array([10.0, -90.0]), np.array([1.0, 1.0])
    day = [region_shares(weights, lons, hour * 3_600_000) for hour in range(24)]
    busiest = np.argmax(day, axis=0)
    assert abs(int(busiest[0]) - 20) <= 4
    assert abs((int(busiest[1]) - 2 + 12) % 24 - 12) <= 4


def test_bytes_follow_from_bitrate_and_time() -> None:
    plays = records(run(small_world(), 30), "play.events")
    last: dict[int, dict] = {}
    checked = 0
    for play in sorted(plays, key=lambda each: each["at_ms"]):
        before = last.get(play["session"])
        if before is not None and play["event"] == "HEARTBEAT" and before["event"] != "BITRATE":
            span_ms = play["at_ms"] - before["at_ms"]
            assert play["bytes"] == play["bitrate_bps"] * span_ms // 8000
            checked += 1
        last[play["session"]] = play
    assert checked > 1000


# -- what a person does to it


def of(batches: list, appliance: str, topic: str) -> list[dict]:
    return [each for each in records(batches, topic) if each["appliance"] == appliance]


def busiest(world: World) -> str:
    """Of a site where others can take over."""
    crowd = world.viewers.counts(len(world.plant.names))
    return world.plant.names[int(np.argmax(crowd))]


def test_a_failure_is_reported_at_once_and_its_viewers_move_within_two_seconds() -> None:
    world = small_world()
    run(world, 1)
    name = busiest(world)
    (report,) = records(world.command("FAIL", name))
    assert (report["appliance"], report["service"], report["egress_bps"]) == (name, "FAILED", 0)
    after = world.tick(world.now_ms + 2_100)
    left = [each for each in records(after, "play.events") if each["event"] == "FAILOVER"]
    assert {each["appliance"] for each in left} == {name}  # what they left
    later = world.tick(world.now_ms + 12_000)
    assert not of(later, name, "play.events")
    assert {each["service"] for each in of(later, name, "appliance.health")} == {"FAILED"}
    assert {each["egress_bps"] for each in of(later, name, "appliance.health")} == {0}


def test_a_draining_appliance_takes_nobody_new_and_empties() -> None:
    world = small_world()
    run(world, 1)
    name = busiest(world)
    before = world.viewers.counts(len(world.plant.names)).max()
    (report,) = records(world.command("DRAIN", name))
    assert report["service"] == "DRAINING"
    later = world.tick(world.now_ms + 60_000)
    events = of(later, name, "play.events")
    assert events and not any(each["event"] == "START" for each in events)
    left = world.viewers.counts(len(world.plant.names))[world.plant.names.index(name)]
    assert left < before / 2


def test_a_filling_appliance_takes_less_and_a_recovered_one_all_again() -> None:
    world = small_world()
    name = busiest(world)
    number = world.plant.names.index(name)

    def crowd() -> int:
        return int(world.viewers.counts(len(world.plant.names))[number])

    usual = crowd()
    assert records(world.command("FILL", name))[0]["service"] == "FILLING"
    world.tick(world.now_ms + 200_000)
    filling = crowd()
    assert 0.3 * usual < filling < 0.85 * usual
    assert records(world.command("RECOVER", name))[0]["service"] == "OK"
    world.tick(world.now_ms + 300_000)
    assert crowd() > filling


def test_a_site_means_all_its_appliances() -> None:
    world = small_world()
    site = world.ground.sites.names[0]
    reports = records(world.command("FAIL", site))
    mine = [name for name in world.plant.names if name.startswith(f"{site}-a")]
    assert [each["appliance"] for each in reports] == mine and len(mine) > 1


@pytest.mark.parametrize(("action", "entity"), [("FAIL", "nowhere"), ("EXPLODE", "fra-ix1")])
def test_what_there_is_not_cannot_be_commanded(action: str, entity: str) -> None:
    with pytest.raises(UsageError):
        small_world().command(action, entity)


# -- routes


def test_routes_flap_lengthen_and_change_and_come_back() -> None:
    size = SimSize(regions=2, sites=10, appliances=60, prefixes=1_200, rate=50, churn_per_s=20)
    world = World(1, size, START_MS)
    known = {
        (each["site"], each["peer"], each["prefix"]): each
        for each in records(world.routes(), "bgp.routes")
        if "prefix" in each
    }
    withdrawn, back, longer, med = set(), 0, 0, 0
    for route in records(run(world, 60), "bgp.routes"):
        key = (route["site"], route["peer"], route["prefix"])
        before = known[key]
        if route["action"] == "WITHDRAW":
            withdrawn.add(key)
            continue
        back += key in withdrawn
        longer += route["as_path_len"] != before["as_path_len"]
        med += route["med"] != before["med"]
        assert route["as_path_len"] == len(route["as_path"].split())
        known[key] = route
    assert withdrawn and back and longer and med


def test_a_pause_in_which_nobody_watched_leaves_no_gap_in_the_bytes() -> None:
    world = small_world()
    world.skip_to(START_MS + 100_000)
    plays = records(world.tick(START_MS + 112_000), "play.events")
    assert max(each["bytes"] * 8000 // each["bitrate_bps"] for each in plays) <= 10_100


@pytest.mark.parametrize(
    "wrong",
    [
        {"regions": 0},
        {"sites": 3},
        {"appliances": 39},
        {"prefixes": 100},
        {"prefixes": 2_000_000},
        {"rate": 0},
    ],
)
def test_a_world_that_cannot_be_is_refused_with_a_sentence(wrong: dict) -> None:
    with pytest.raises(UsageError):
        SimSize(**wrong)
