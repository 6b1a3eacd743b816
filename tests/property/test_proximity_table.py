"""Proximity against the oracle: any history of routes and inventory, in any number of cuts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.config import DampingConfig, ProximityConfig, SteeringConfig
from pipeline.decide import groups as groups_module
from pipeline.decide.groups import RegionTable, TableChange
from pipeline.state import routes as routes_module
from pipeline.state.fleet import Fleet
from pipeline.state.routes import Routes
from pipeline.wire.address import format_prefix, prefix_bytes
from pipeline.wire.rows import Account
from tests.frames import NOW_MS, fold_fleet, network, region, site, topic_rows
from tests.proximity_oracle import Entry, OracleRoutes, World, table

#: Two withdrawals damp a route, two falls a session, for a while that a history may outlast.
DAMPING = DampingConfig(
    session_suppress=1500,
    route_suppress=1500,
    session_half_life_ms=60_000,
    route_half_life_ms=90_000,
)
REGIONS = ("eu", "us")
SITES = ("a", "b", "c", "d", "e")
PEERS = ("p1", "p2")
#: Where sites, regions and networks may be: two of them in the same kilometre.
PLACES = ((50.0, 8.0), (50.0, 8.001), (51.0, 9.0), (-33.0, 151.0), (89.9, 0.0))


def v4(levels: list[int]) -> bytes:
    """A nested prefix of 11.0.0.0/8: two more bits a level, /8 to /32."""
    value, length = 11 << 24, 8
    for level in levels:
        length += 2
        value |= level << (32 - length)
    return b"\0" * 10 + b"\xff\xff" + value.to_bytes(4, "big") + bytes([length + 96])


def v6(levels: list[int]) -> bytes:
    """A nested prefix of 2600::/12: nine or ten more bits a level, up to /128."""
    value, length = 0x2600 << 112, 12
    for level in levels:
        length = min(length + 10, 128)
        value |= level << (128 - length)
    return value.to_bytes(16, "big") + bytes([length])


LEVELS = st.lists(st.integers(0, 1), max_size=12)
#: A few that meet often, /92 and /128 among them, and then any.
OFTEN = [
    *(v4([0] * depth) for depth in (0, 1, 4)),
    v4([0, 0, 0, 1]),
    *(v6([0] * depth) for depth in (0, 5, 8, 12)),
    v6([0, 0, 0, 0, 0, 1]),
]
PREFIXES = st.one_of(*[st.sampled_from(OFTEN)] * 4, LEVELS.map(v4), LEVELS.map(v6))


class FakePaths:
    """The paths section as far as proximity reads it; a step is ten milliseconds."""

    def __init__(self) -> None:
        self.version = 0
        self.held: dict[tuple[int, bytes], int] = {}
        self.lossy_ones: set[tuple[int, bytes]] = set()
        self._columns()

    def put(self, site_id: int, prefix: bytes, step: int) -> None:
        self.held[site_id, prefix] = step
        self._columns()

    def loses(self, site_id: int, prefix: bytes, lossy: bool) -> None:
        if (site_id, prefix) in self.held:
            (self.lossy_ones.add if lossy else self.lossy_ones.discard)((site_id, prefix))
            self._columns()

    def forget(self) -> None:
        """Drop the oldest row, so that the others move up."""
        if self.held:
            oldest = next(iter(self.held))
            del self.held[oldest]
            self.lossy_ones.discard(oldest)
            self._columns()

    def _columns(self) -> None:
        self.version += 1
        keys = list(self.held)
        packed = [one << 8 | prefix[16] for one, prefix in keys]
        self.site_and_length = np.array(packed, np.uint64)
        self.hi = np.array([int.from_bytes(one[:8], "big") for _, one in keys], np.uint64)
        self.lo = np.array([int.from_bytes(one[8:16], "big") for _, one in keys], np.uint64)
        self.step = np.array(list(self.held.values()), np.int16)
        self.lossy = np.array([one in self.lossy_ones for one in keys], np.bool_)

    def rtt_ms_of_step(self, step: int) -> int:
        return 10 * step


@dataclass
class Everything:
    """The sections, the oracle beside them, and a table for each region with a follower of it."""

    fleet: Fleet = field(default_factory=Fleet)
    paths: FakePaths = field(default_factory=FakePaths)
    routes: Routes = field(default_factory=Routes)
    oracle: OracleRoutes = field(default_factory=lambda: OracleRoutes(config=DAMPING))
    tables: dict[int, RegionTable] = field(default_factory=dict)
    followed: dict[int, dict[bytes, int]] = field(default_factory=dict)
    alive: dict[int, dict[int, int]] = field(default_factory=dict)  # id -> index
    located: dict[int, tuple[int, list[int]]] = field(default_factory=dict)  # shape, longest
    notes: dict[str, int] = field(default_factory=dict)
    offset: int = 0

    def __post_init__(self) -> None:
        fold_fleet(self.fleet, *(region(name) for name in REGIONS))
        for name in REGIONS:
            at = self.fleet.regions.get(name)
            self.tables[at], self.followed[at], self.alive[at] = RegionTable(at), {}, {}

    now_ms: int = NOW_MS

    def apply(self, events: list[tuple[Any, ...]]) -> None:
        """One cut's events: inventory and paths at once, routes as one batch in order."""
        records: list[tuple[str, dict[str, Any]]] = []
        buried: list[bytes] = []
        for kind, *what in events:
            match kind:
                case "announce" | "withdraw":
                    records.append(self._route(kind, *what))
                case "up" | "down":
                    records.append(self._session(kind, *what))
                case "bury":
                    buried.append(self._tombstone(*what))
                case _:
                    self._other(kind, what)
        # Tombstones come last in the batch, as `topic_rows` lays them.
        for site_name, peer, prefix, path_id in (self._parted[key] for key in buried):
            self.oracle.withdraw((site_name, peer, prefix, path_id))
        rows = topic_rows("bgp.routes", records, self.offset, buried)
        self.offset += len(records) + len(buried)
        account = Account()
        account.arrive(rows)
        self.routes.release(self.now_ms)
        self.routes.fold(rows, self.now_ms, SteeringConfig(damping=DAMPING), account)
        self.oracle.damping.close(self.now_ms, DAMPING)
        account.close()
        assert not account.refused
        for name, count in account.notes.items():
            self.notes[name] = self.notes.get(name, 0) + count

    _parted: dict[bytes, tuple[str, str, bytes, int]] = field(default_factory=dict)

    def _tombstone(self, site_name: str, peer: str, prefix: bytes, path_id: int) -> bytes:
        key = f"{site_name}|{peer}|{format_prefix(prefix)}|{path_id}".encode()
        self._parted[key] = (site_name, peer, prefix, path_id)
        return key

    def _route(
        self, kind: str, site_name: str, peer: str, prefix: bytes, path_id: int, *attributes: Any
    ) -> tuple[str, dict[str, Any]]:
        hops, med = attributes or (0, None)
        key = (site_name, peer, prefix, path_id)
        if kind == "announce":
            self.oracle.announce(key, (hops, med))
        else:
            self.oracle.withdraw(key)
        return "Route", {
            "site": site_name, "peer": peer, "peer_asn": 1, "prefix": prefix, "path_id": path_id,
            "action": kind.upper(), "as_path": "", "as_path_len": hops, "med": med,
            "local_pref": None, "communities": [], "next_hop": bytes(16), "at_ms": NOW_MS,
        }  # fmt: skip

    def _session(self, kind: str, site_name: str, peer: str) -> tuple[str, dict[str, Any]]:
        self.oracle.flush(site_name, peer, down=kind == "down")
        given = {"site": site_name, "peer": peer, "peer_asn": 1, "at_ms": NOW_MS}
        return ("PeerUp", given) if kind == "up" else ("PeerDown", {**given, "cause": ""})

    def _other(self, kind: str, what: list[Any]) -> None:
        match kind, what:
            case "site", [name, where, at]:
                lat, lon = PLACES[at]
                fold_fleet(self.fleet, site(name, region=where, lat=lat, lon=lon))
            case "lost", [name]:
                fold_fleet(self.fleet, tombstones=[f"site:{name}".encode()])
            case "region", [name, at]:
                fold_fleet(self.fleet, region(name, lat=PLACES[at][0], lon=PLACES[at][1]))
            case "network", [prefix, where, at]:
                lat, lon = PLACES[at]
                fold_fleet(
                    self.fleet, network(format_prefix(prefix), region=where, lat=lat, lon=lon)
                )
            case "unmapped", [prefix]:
                fold_fleet(self.fleet, tombstones=[f"network:{format_prefix(prefix)}".encode()])
            case "rtt", [name, prefix, step]:
                if (at := self.fleet.sites.get(name)) >= 0:
                    self.paths.put(at, prefix, step)
            case "loses", [name, prefix, lossy]:
                if (at := self.fleet.sites.get(name)) >= 0:
                    self.paths.loses(at, prefix, lossy)
            case "wait", [wait_ms]:
                self.now_ms += wait_ms
            case "aged", []:
                self.paths.forget()

    def check(self, config: SteeringConfig) -> None:
        """After an update every table is the oracle's, a rebuilt one's, and its followers'."""
        for at, kept in self.tables.items():
            indices = {int(kept.group_id[g]): g for g in np.flatnonzero(kept.alive)}
            change = kept.update(self.routes, self.fleet, self.paths, config)
            names = self.fleet.sites.names
            lossy = {(names[one], prefix) for one, prefix in self.paths.lossy_ones}
            world = World(self.fleet, at, self._rtt(), lossy, config.proximity.missing_med,
                          config.proximity.sites_max)  # fmt: skip
            expected = table(self.oracle, world)
            assert contents(kept, self.fleet) == expected
            assert preferred(kept, self.fleet) == {
                prefix: [entry[0] for entry in sorted(entries, key=lambda one: one[-1] > 0)]
                for prefix, entries in expected.items()
            }
            anew = RegionTable(at)
            anew.update(self.routes, self.fleet, self.paths, config)
            assert ids(anew) == ids(kept)
            self._follow(at, change, indices)
            assert self.followed[at] == ids(kept)
            assert set(self.alive[at]) == set(ids(kept).values())
            assert not kept.update(self.routes, self.fleet, self.paths, config)
            self._match(kept, expected)
            self._remembered(kept)
        assert self.notes == +self.oracle.notes
        assert len(self.routes) == len(self.oracle.routes)

    def _rtt(self) -> dict[tuple[str, bytes], int]:
        names = self.fleet.sites.names
        return {(names[at], one): step for (at, one), step in self.paths.held.items()}

    def _follow(self, at: int, change: TableChange, indices: dict[int, int]) -> None:
        kept, alive, followed = self.tables[at], self.alive[at], self.followed[at]
        removed = keys(change.removed_hi, change.removed_lo, change.removed_length)
        assert removed == sorted(removed)
        for prefix in removed:
            del followed[prefix]
        given = keys(change.set_hi, change.set_lo, change.set_length)
        assert given == sorted(given)
        followed.update(zip(given, kept.group_id[change.set_group].tolist(), strict=True))
        for one in change.died.tolist():
            del alive[one]
        for index in change.born.tolist():
            assert int(kept.group_id[index]) not in alive
            alive[int(kept.group_id[index])] = index
        # A living group keeps its index.
        assert alive == {int(kept.group_id[g]): g for g in np.flatnonzero(kept.alive)}
        assert all(alive[one] == index for one, index in indices.items()
                   if one in alive and one not in kept.group_id[change.born])  # fmt: skip

    def _remembered(self, kept: RegionTable) -> None:
        """As long as a table keeps its shape, so does every longest match in it."""
        hi = np.array([0] * 64 + [0x2600_0000_0000_0000 + (n << 40) for n in range(64)], np.uint64)
        lo = np.array([0xFFFF_0B00_0000 + (n << 18) for n in range(64)] + [0] * 64, np.uint64)
        found = kept.longest(hi, lo).tolist()
        before = self.located.get(kept.region)
        if before is not None and before[0] == kept.shape:
            assert before[1] == found
        self.located[kept.region] = (kept.shape, found)

    def _match(self, kept: RegionTable, expected: dict[bytes, list[Entry]]) -> None:
        asked = sorted({one[:16] for one in expected} | {v4([0, 1])[:16], v6([1])[:16], bytes(16)})
        asked += [(int.from_bytes(one, "big") ^ 1).to_bytes(16, "big") for one in asked]
        hi = np.array([int.from_bytes(one[:8], "big") for one in asked], np.uint64)
        lo = np.array([int.from_bytes(one[8:], "big") for one in asked], np.uint64)
        held = ids(kept)
        for address, group in zip(asked, kept.match(hi, lo).tolist(), strict=True):
            around = [one for one in held if inside(address, one)]
            if group < 0:
                assert not around
            else:
                assert kept.group_id[group] == held[max(around, key=lambda one: one[16])]


def inside(address: bytes, prefix: bytes) -> bool:
    shift = 128 - prefix[16]
    return int.from_bytes(address, "big") >> shift == int.from_bytes(prefix[:16], "big") >> shift


def keys(hi: Any, lo: Any, length: Any) -> list[bytes]:
    return [bytes(row) for row in prefix_bytes(hi, lo, length)]


def ids(kept: RegionTable) -> dict[bytes, int]:
    found = kept.group_id[kept.group].tolist()
    return dict(zip(keys(kept.hi, kept.lo, kept.length), found, strict=True))


def contents(kept: RegionTable, fleet: Fleet) -> dict[bytes, list[Entry]]:
    out = {}
    for prefix, group in zip(keys(kept.hi, kept.lo, kept.length), kept.group.tolist(), strict=True):
        rows = range(kept.start[group], kept.start[group] + kept.count[group])
        out[prefix] = [
            (
                fleet.sites.names[kept.site[row]], int(kept.tier[row]),
                int(kept.as_path_len[row]), int(kept.med[row]), int(kept.rtt_ms[row]),
                int(kept.distance_km[row]), int(kept.last[row]),
            )
            for row in rows
        ]  # fmt: skip
    return out


def preferred(kept: RegionTable, fleet: Fleet) -> dict[bytes, list[str]]:
    """The sites of each prefix in the order in which they serve."""
    entries, count = kept.in_order(kept.group)
    names = [fleet.sites.names[site] for site in kept.site[entries].tolist()]
    ends = np.cumsum(count).tolist()
    by_prefix = [names[end - size : end] for end, size in zip(ends, count.tolist(), strict=True)]
    return dict(zip(keys(kept.hi, kept.lo, kept.length), by_prefix, strict=True))


SITE, PEER = st.sampled_from(SITES), st.sampled_from(PEERS)
PLACE, REGION = st.integers(0, len(PLACES) - 1), st.sampled_from(["eu", "eu", "eu", "us"])
ROUTE = (SITE, PEER, PREFIXES, st.sampled_from([0, 0, 0, 1]))
STEP = st.sampled_from([0, 1, 1, 2, -1])


def event(kind: str, *what: Any) -> Any:
    return st.tuples(st.just(kind), *what)


ANNOUNCE = event(
    "announce", *ROUTE, st.sampled_from([1, 1, 1, 2]), st.sampled_from([None, 0, 0, 5, 2**32 - 1])
)
#: Every site measured to one prefix, so that the RTT of a tie can count.
MEASURED = st.builds(
    lambda prefix, steps, lossy: (
        [("rtt", name, prefix, step) for name, step in zip(SITES, steps, strict=True)]
        + [("loses", name, prefix, True) for name in lossy]
    ),
    st.sampled_from(OFTEN),
    st.lists(STEP, min_size=len(SITES), max_size=len(SITES)),
    st.lists(SITE, max_size=2),
)
#: Many sites announce one prefix alike.
TIED = st.builds(
    lambda prefix, med: [("announce", name, "p1", prefix, 0, 1, med) for name in SITES],
    st.sampled_from(OFTEN),
    st.sampled_from([None, 5]),
)
OTHER = st.one_of(
    *[event("withdraw", *ROUTE), event("bury", *ROUTE)] * 2,
    event("up", SITE, PEER),
    event("down", SITE, PEER),
    *[event("site", SITE, REGION, PLACE)] * 2,
    event("lost", SITE),
    event("region", REGION, PLACE),
    event("network", PREFIXES, REGION, PLACE),
    event("unmapped", PREFIXES),
    event("rtt", SITE, st.sampled_from(OFTEN), STEP),
    *[event("loses", SITE, st.sampled_from(OFTEN), st.booleans())] * 2,
    event("aged"),
    event("wait", st.sampled_from([1, 50_000, 200_000])),
)
CONFIGS = st.builds(
    ProximityConfig,
    missing_med=st.sampled_from(["best", "worst"]),
    sites_max=st.sampled_from([1, 2, 3, 16]),
)


@st.composite
def histories(draw: Any) -> list[list[tuple[Any, ...]]]:
    """Events by cut: enough announcements that prefixes nest and sites tie, and whatever else."""
    cuts = []
    for _ in range(draw(st.integers(1, 4))):
        events = draw(st.lists(ANNOUNCE, min_size=8, max_size=24))
        events += draw(st.lists(OTHER, max_size=8))
        for several in draw(st.lists(st.one_of(MEASURED, TIED), max_size=4)):
            events += several
        cuts.append(draw(st.permutations(events)))
    return cuts


def placed() -> Everything:
    """A world in which all sites but one are known."""
    world = Everything()
    world.apply([("site", name, "eu", at) for at, name in enumerate(SITES[1:])])
    return world


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=histories(), rules=st.lists(st.none() | CONFIGS, min_size=4, max_size=4))
def test_any_history_leads_to_the_table_that_the_rules_describe(
    cuts: list[list[tuple[Any, ...]]], rules: list[ProximityConfig | None]
) -> None:
    world, config = placed(), SteeringConfig()
    for events, new in zip(cuts, rules, strict=False):
        world.apply(events)
        config = config if new is None else SteeringConfig(proximity=new)
        world.check(config)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=histories())
def test_a_table_that_lets_go_and_routes_that_are_numbered_anew_are_the_same(
    cuts: list[list[tuple[Any, ...]]],
) -> None:
    """The thresholds that a small world never reaches, lowered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes_module, "_SPARE", 0)
        patch.setattr(groups_module, "_SPARE", 0)
        patch.setattr(groups_module, "_MUCH", 2)
        world = placed()
        for events in cuts:
            world.apply(events)
            world.check(SteeringConfig())
            # Most sessions end, so that more is dead than alive.
            world.apply([("down", name, peer) for name in SITES[1:] for peer in PEERS])
            world.check(SteeringConfig())


@settings(max_examples=60, deadline=None)
@given(
    levels=st.lists(st.integers(0, 1), min_size=12, max_size=12),
    family=st.sampled_from([v4, v6]),
    own=st.lists(
        st.lists(st.tuples(SITE, st.integers(1, 2)), min_size=1, max_size=3),
        min_size=13,
        max_size=13,
    ),
    order=st.randoms(use_true_random=False),
)
def test_a_chain_of_thirteen_nested_prefixes_inherits_all_the_way_down(
    levels: list[int], family: Any, own: list[list[tuple[str, int]]], order: Any
) -> None:
    world = Everything()
    world.apply([("site", name, "eu", at) for at, name in enumerate(SITES)])
    events = [
        ("announce", site_name, "p1", family(levels[:depth]), 0, hops, None)
        for depth, announced in enumerate(own)
        for site_name, hops in announced
    ]
    order.shuffle(events)
    for start in range(0, len(events), 7):
        world.apply(events[start : start + 7])
        world.check(SteeringConfig())
    for start in range(0, len(events), 11):
        world.apply([("withdraw", *one[1:5]) for one in events[start : start + 4]])
        world.check(SteeringConfig())
