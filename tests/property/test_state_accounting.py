"""L3 for the sections that fold the fleet and its telemetry: whatever comes, every row is folded or
refused, numbers stay finite and in range, and rows that may come in any order do."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decide.health import evaluate
from pipeline.state.demand import Demand
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.links import Links
from pipeline.state.paths import Paths
from pipeline.state.plays import Plays
from pipeline.wire.address import parse_address, parse_prefix
from pipeline.wire.rows import Account
from tests.frames import (
    CONFIG,
    NOW_MS,
    appliance,
    cluster,
    columns_of,
    drain,
    fleet_of,
    fold_into,
    link_sample,
    network,
    path_sample,
    play,
    region,
    report,
    site,
    topic_rows,
)

HOUR_MS = 3_600_000
FLEET = fleet_of(
    region(), site("s0", {"l0": 10, "l1": 20}), appliance("a0", "s0"), appliance("a1", "s0")
)
BASES = {
    "Region": region(),
    "Site": site("s0", {"l0": 10}),
    "Cluster": cluster("c0", "s0"),
    "Appliance": appliance("a0", "s0", cluster="c0"),
    "Network": network("198.18.0.0/16"),
    "Drain": drain("s0"),
    "Health": report("a0"),
    "LinkSample": link_sample("l0"),
    "PathSample": path_sample("s0", "198.18.1.0/24"),
    "PlayEvent": play("198.18.1.7", amount=60_000),
}
TEXTS = st.sampled_from(
    ["a0", "a1", "s0", "l0", "l1", "c0", "eu", "us", "", "|", "\x00", "ü" * 200, "nobody"]
)
LONGS = st.sampled_from(
    [0, 1, -1, 99, 1000, 10**9, 10**12, 10**12 + 1, 10**14, 10**14 + 1, 2**63 - 1, -(2**63)]
)
TIMES = st.sampled_from(
    [NOW_MS + off for off in (0, -1, 1, -5_000, 5_000, -60_000, HOUR_MS, -HOUR_MS, -900_000)]
    + [0, 2**63 - 1, -(2**63)]
)
DOUBLES = st.sampled_from(
    [0.0, 0.5, 1.0, 1.05, 1.2, -0.1, 90.0, 181.0, 1e300, float("nan"), float("inf"), -float("inf")]
)
ADDRESSES = st.sampled_from(
    [parse_address(one) for one in ("198.18.1.7", "198.18.2.7", "2001:db8::1", "::", "::1")]
    + [b"\xff" * 16]
)
PREFIXES = st.sampled_from(
    [parse_prefix(one) for one in ("198.18.1.0/24", "198.18.0.0/16", "2001:db8::/32", "::/0")]
    + [b"\xff" * 17, b"\xff" * 16 + b"\x20"]
)
LISTS: dict[str, st.SearchStrategy[Any]] = {
    "links": st.lists(st.fixed_dictionaries({"link": TEXTS, "capacity_bps": LONGS}), max_size=3),
    "serves": st.lists(st.sampled_from(["VOD", "LIVE", "GAME"]), max_size=4),
    "addresses": st.lists(ADDRESSES, max_size=2),
    "regions": st.lists(TEXTS, max_size=3),
}
FIXED = {"client": ADDRESSES, "network": PREFIXES}


def values_of(record: str, column: str) -> st.SearchStrategy[Any]:
    """Whatever the schema allows in a column, mostly what it should not hold."""
    if column in LISTS:
        return LISTS[column]
    if column == "at_ms":
        return TIMES
    kind = columns_of(record)[column]
    if kind.is_(columns_of("Site")["lat"]):
        return DOUBLES
    if hasattr(kind, "categories"):
        return st.sampled_from(kind.categories.to_list())
    match str(kind):
        case "Int64":
            return LONGS
        case "Binary":
            return PREFIXES if record == "PathSample" else FIXED[column]
        case _:
            return TEXTS


@st.composite
def records(draw: st.DrawFn, *names: str) -> list[tuple[str, dict[str, Any]]]:
    """Good records, each with up to three columns made otherwise."""
    drawn = []
    for _ in range(draw(st.integers(0, 12))):
        name, fields = BASES[draw(st.sampled_from(names))]
        fields = dict(fields)
        for column in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)):
            fields[column] = draw(values_of(name, column))
        drawn.append((name, fields))
    return drawn


CUTS = settings(max_examples=150, deadline=None)


@CUTS
@given(
    st.lists(
        st.tuples(
            records("Region", "Site", "Cluster", "Appliance", "Network", "Drain"),
            st.lists(
                st.sampled_from(
                    [
                        b"appliance:a0",
                        b"site:s0",
                        b"network:198.18.0.0/16",
                        b"region:eu",
                        b"",
                        b"x:y",
                    ]
                ),
                max_size=3,
            ),
        ),
        max_size=4,
    )
)
def test_l3_every_inventory_row_is_folded_or_refused(
    cuts: list[tuple[list[tuple[str, dict[str, Any]]], list[bytes]]],
) -> None:
    fleet, offset = Fleet(), 0
    for given_records, ends in cuts:
        rows = topic_rows("fleet.inventory", given_records, offset, ends)
        offset += rows.count
        account = Account()
        account.arrive(rows)
        fleet.fold(rows, 0, 1, 0, account)
        account.close()
    assert len(fleet.appliance_site) == len(fleet.appliances) == len(fleet.appliance_addresses)
    assert len(fleet.site_region) == len(fleet.sites)
    assert len(fleet.link_site) == len(fleet.links)
    assert np.isfinite(fleet.site_lat).all()
    assert np.isfinite(fleet.network_lat).all()
    assert (fleet.appliance_capacity_bps >= 0).all()
    assert (fleet.link_site[fleet.link_alive] >= 0).all()
    assert fleet.site_alive[fleet.link_site[fleet.link_alive]].all()
    assert (fleet.site_region[fleet.site_alive] >= 0).all()
    assert (fleet.appliance_site[fleet.appliance_alive] >= 0).all()
    by_key = list(zip(fleet.network_hi, fleet.network_lo, fleet.network_length, strict=True))
    assert by_key == sorted(set(by_key))


@CUTS
@given(st.lists(st.tuples(st.integers(0, 20_000), records("Health")), max_size=6))
def test_l3_every_report_is_folded_or_refused_and_states_stay_sound(
    cuts: list[tuple[int, list[tuple[str, dict[str, Any]]]]],
) -> None:
    health, now_ms = Health(), NOW_MS
    for passed_ms, reports in cuts:
        now_ms += passed_ms
        fold_into(health, "appliance.health", reports, FLEET, now_ms)
        for verdict in evaluate(health, Plays(), FLEET, now_ms, CONFIG):
            assert verdict.reason
            assert verdict.detail
        # The same instant again: nothing more to say but what follows from the first.
        usable = health.usable_bps(FLEET, now_ms, CONFIG)
        assert ((usable >= 0) & (usable <= FLEET.appliance_capacity_bps)).all()
        assert np.isfinite(health.utilisation).all()
        assert (health.last_at_ms <= now_ms).all()
        assert (health.heard_ms <= now_ms).all()


@CUTS
@given(records("LinkSample"), records("PathSample"), records("PlayEvent"))
def test_l3_every_sample_and_play_is_folded_or_refused(
    samples: list[tuple[str, dict[str, Any]]],
    paths_measured: list[tuple[str, dict[str, Any]]],
    plays: list[tuple[str, dict[str, Any]]],
) -> None:
    links, paths, demand = Links(), Paths(), Demand()
    for _ in range(2):
        fold_into(links, "traffic.links", samples, FLEET)
        fold_into(paths, "traffic.paths", paths_measured, FLEET)
        fold_into(demand, "play.events", plays, FLEET)
    assert (links.used_bps >= 0).all()
    assert (links.site_link_capacity_bps(FLEET) >= 0).all()
    assert (paths.step >= -1).all()
    assert np.isfinite(paths.loss).all()
    assert (demand.level_bps(NOW_MS + 5_000) >= 0).all()


@CUTS
@given(st.lists(records("PlayEvent"), max_size=4), st.randoms(use_true_random=False))
def test_plays_may_come_in_any_order_and_in_any_cuts(
    cuts: list[list[tuple[str, dict[str, Any]]]], shuffle: Any
) -> None:
    def levels(parts: list[list[tuple[str, dict[str, Any]]]]) -> dict[Any, Any]:
        demand = Demand()
        for part in parts:
            fold_into(demand, "play.events", part, FLEET)
        keys = zip(demand.block_hi.tolist(), demand.block_lo.tolist(), strict=True)
        return dict(zip(keys, demand.level_bps(NOW_MS + 5_000).tolist(), strict=True))

    whole = [one for part in cuts for one in part]
    expected = levels(cuts)
    shuffle.shuffle(whole)
    assert levels([whole]) == expected


@CUTS
@given(records("Health"))
def test_a_repeated_cut_changes_nothing_but_what_time_does(
    reports: list[tuple[str, dict[str, Any]]],
) -> None:
    """The broker may deliver twice; the second time every row is a duplicate or older."""
    health = Health()
    behind = [(name, {**one, "at_ms": min(one["at_ms"], NOW_MS)}) for name, one in reports]
    fold_into(health, "appliance.health", behind, FLEET)
    first = (health.utilisation.tolist(), health.service.tolist(), health.last_at_ms.tolist())
    times = [one["at_ms"] for _, one in behind]
    if len(set(times)) == len(times):
        fold_into(health, "appliance.health", behind, FLEET)
        second = (health.utilisation.tolist(), health.service.tolist(), health.last_at_ms.tolist())
        assert second == first


_FOLD = """
import numpy as np, xxhash
from tests.frames import *
from pipeline.state.demand import Demand
from pipeline.state.links import Links
from pipeline.state.paths import Paths

rng = np.random.default_rng(3)
fleet = fleet_of(region(), *(site(f"s{n}", {f"l{n}": 10**11}) for n in range(9)),
                 *(appliance(f"a{n}", f"s{n % 9}", cluster=f"c{n % 9}") for n in range(99)))
world, demand, links, paths = HealthWorld(fleet), Demand(), Links(), Paths()
digest = xxhash.xxh3_64()
for step in range(12):
    now = NOW_MS + step * 1000
    world.now_ms = now
    world.fold(*(report(f"a{n}", now - int(n) % 7, egress_bps=int(x), errors=int(e),
                        service="FAILED" if e > 590 else "OK")
                 for n, x, e in zip(rng.integers(0, 99, 200), rng.integers(0, 10**11, 200),
                                    rng.integers(0, 600, 200))))
    for one in evaluate(world.health, world.plays, fleet, now, CONFIG):
        digest.update(repr(one).encode())
    fold_into(demand, "play.events",
              [play(f"198.18.{a}.{b}", now - int(t), amount=int(x), appliance=f"a{a % 99}")
               for a, b, t, x in zip(rng.integers(0, 200, 2000), rng.integers(0, 255, 2000),
                                     rng.integers(0, 9000, 2000), rng.integers(0, 10**9, 2000))],
              fleet, now)
    fold_into(links, "traffic.links",
              [link_sample(f"l{n}", now, used_bps=int(x)) for n, x in
               zip(rng.integers(0, 9, 20), rng.integers(0, 10**11, 20))], fleet, now)
    fold_into(paths, "traffic.paths",
              [path_sample(f"s{n}", f"198.18.{c}.0/24", now, rtt_us=int(x)) for n, c, x in
               zip(rng.integers(0, 9, 500), rng.integers(0, 200, 500), rng.integers(0, 9**6, 500))],
              fleet, now)
usable = world.health.usable_bps(fleet, NOW_MS + 12_000, CONFIG)
for array in (world.health.utilisation, world.health.state, usable, demand.block_hi,
              demand.block_lo, demand.level_bps(NOW_MS + 20_000), links.used_bps, paths.rtt_us,
              paths.step, paths.loss, paths.lo, paths.site):
    digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""


def test_l1_threads_hash_seeds_and_instruction_sets_do_not_change_a_byte() -> None:
    root = Path(__file__).parents[2]
    digests = set()
    for threads, seed, disabled in (
        ("1", "0", ""),
        ("2", "7", "AVX512F AVX512CD AVX512_SKX"),
        ("4", "99", "AVX2 FMA3"),
    ):
        settings_of = {
            **os.environ,
            "POLARS_MAX_THREADS": threads,
            "PYTHONHASHSEED": seed,
            "NPY_DISABLE_CPU_FEATURES": disabled,
            "PYTHONPATH": str(root),
        }
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _FOLD],
            env=settings_of,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1
