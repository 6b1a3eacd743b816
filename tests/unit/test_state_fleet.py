"""The inventory section: references in any order, one outcome for every bad record."""

import numpy as np
import polars as pl
import pytest

from pipeline.reasons import Noted, Refusal
from pipeline.state import ids as state_ids
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Ids
from pipeline.wire.rows import Account
from schemas.partition import partition_of
from tests.frames import (
    appliance,
    cluster,
    fleet_of,
    fold_fleet,
    network,
    region,
    site,
    topic_rows,
)

SMALL = (
    region(),
    site("fra1", {"fra1-t1": 10, "fra1-ix": 20}),
    cluster("c1", "fra1"),
    appliance("a1", "fra1", cluster="c1", serves=["VOD", "GAME"], addresses=[b"\0" * 16]),
    network("203.0.114.0/24"),
)


def columns(fleet: Fleet) -> dict[str, object]:
    """What the fleet says, by name instead of by dense id."""
    site_names, regions = fleet.sites.names, fleet.regions.names
    return {
        "sites": {
            name: (regions[fleet.site_region[at]], fleet.site_lat[at], fleet.site_kind[at])
            for at, name in enumerate(site_names)
            if fleet.site_alive[at]
        },
        "appliances": {
            name: (
                site_names[fleet.appliance_site[at]],
                fleet.appliance_cluster[at] >= 0
                and fleet.clusters.names[fleet.appliance_cluster[at]],
                fleet.appliance_capacity_bps[at],
                fleet.appliance_serves[at],
                fleet.appliance_addresses[at],
            )
            for at, name in enumerate(fleet.appliances.names)
            if fleet.appliance_alive[at]
        },
        "links": {
            name: (site_names[fleet.link_site[at]], fleet.link_capacity_bps[at])
            for at, name in enumerate(fleet.links.names)
            if fleet.link_alive[at]
        },
        "regions": {n for at, n in enumerate(regions) if fleet.region_alive[at]},
        "networks": (fleet.network_hi.tolist(), fleet.network_lo.tolist()),
    }


def test_every_record_lands_in_its_columns() -> None:
    fleet = fleet_of(*SMALL)
    assert fleet.live_appliances().tolist() == [True]
    assert columns(fleet)["appliances"] == {
        "a1": ("fra1", "c1", 100_000_000_000, 0b101, [b"\0" * 16])
    }
    assert columns(fleet)["links"] == {"fra1-t1": ("fra1", 10), "fra1-ix": ("fra1", 20)}
    assert fleet.site_kind.tolist() == [1]
    assert fleet.network_length.tolist() == [120]
    assert fleet.regions.names[fleet.network_region[0]] == "eu"


def test_the_order_of_records_does_not_matter_inside_a_cut_nor_over_cuts() -> None:
    whole = columns(fleet_of(*SMALL))
    assert columns(fleet_of(*reversed(SMALL))) == whole
    piecewise = Fleet()
    for number, record in enumerate(reversed(SMALL)):
        fold_fleet(piecewise, record, first_offset=number)
    assert columns(piecewise) == whole


def test_an_appliance_lives_only_while_its_site_does() -> None:
    fleet = fleet_of(appliance("a1", "fra1"))
    assert fleet.appliance_alive.tolist() == [True]
    assert fleet.live_appliances().tolist() == [False]
    fold_fleet(fleet, site("fra1"))
    assert fleet.live_appliances().tolist() == [True]


def test_the_highest_offset_of_an_id_decides_record_or_tombstone() -> None:
    fleet = fleet_of(appliance("a1", capacity_bps=1), appliance("a1", capacity_bps=2))
    assert fleet.appliance_capacity_bps.tolist() == [2]
    fold_fleet(fleet, appliance("a1", capacity_bps=3), tombstones=[b"appliance:a1"])
    assert fleet.appliance_alive.tolist() == [False]


def test_what_comes_back_has_its_old_id() -> None:
    fleet = fleet_of(*SMALL, appliance("a2"))
    fold_fleet(fleet, tombstones=[b"appliance:a1", b"site:fra1", b"network:203.0.114.0/24"])
    assert not fleet.live_appliances().any()
    assert not fleet.link_alive.any()
    assert fleet.network_hi.size == 0
    fold_fleet(fleet, *SMALL)
    assert columns(fleet)["sites"] == columns(fleet_of(*SMALL))["sites"]
    assert fleet.appliances.names == ["a1", "a2"]


def test_a_site_that_moves_to_another_region_takes_its_appliances_along() -> None:
    fleet = fleet_of(*SMALL)
    fold_fleet(fleet, site("fra1", region="us"))
    assert fleet.regions.names[fleet.site_region[fleet.appliance_site[0]]] == "us"


def test_a_link_belongs_to_the_site_that_listed_it_last() -> None:
    fleet = fleet_of(site("a", {"x": 1}), site("b", {"x": 2}))
    assert columns(fleet)["links"] == {"x": ("b", 2)}
    fold_fleet(fleet, tombstones=[b"site:b"], first_offset=2)
    assert columns(fleet)["links"] == {"x": ("a", 1)}
    fold_fleet(fleet, site("a", {"y": 3}), first_offset=3)
    assert columns(fleet)["links"] == {"y": ("a", 3)}


def test_versions_change_with_what_they_stand_for_and_not_with_the_same_again() -> None:
    fleet = fleet_of(*SMALL)
    before = (fleet.version, fleet.placement_version)
    account = fold_fleet(fleet, *SMALL)
    assert (fleet.version, fleet.placement_version) == before
    assert account.notes[Noted.DUPLICATE] == 3
    fold_fleet(fleet, appliance("a1", capacity_bps=5))
    assert (fleet.version, fleet.placement_version) == (before[0] + 1, before[1])
    fold_fleet(fleet, network("203.0.114.0/24", lat=9.0))
    assert (fleet.version, fleet.placement_version) == (before[0] + 2, before[1] + 1)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (site("fra1", lat=float("nan")), Refusal.NOT_A_NUMBER),
        (site("fra1", lon=float("inf")), Refusal.NOT_A_NUMBER),
        (site("fra1", lat=91.0), Refusal.OUT_OF_RANGE),
        (region(lon=-181.0), Refusal.OUT_OF_RANGE),
        (network("203.0.114.0/24", lat=float("nan")), Refusal.NOT_A_NUMBER),
        (network("203.0.114.0/24", network=b"\1" * 16 + b"\x08"), Refusal.HOST_BITS),
        (network("203.0.114.0/24", network=b"\0" * 16 + b"\x81"), Refusal.BAD_PREFIX_LENGTH),
        (appliance("a1", capacity_bps=-1), Refusal.OUT_OF_RANGE),
        (appliance("a1", capacity_bps=2**62), Refusal.OUT_OF_RANGE),
        (site("fra1", {"l": -5}), Refusal.OUT_OF_RANGE),
        (site("fra1", {"": 5}), Refusal.BAD_ID),
        (appliance(""), Refusal.BAD_ID),
        (appliance("a\nb"), Refusal.BAD_ID),
        (appliance("a|b"), Refusal.BAD_ID),
        (appliance("a" * 256), Refusal.BAD_ID),
        (appliance("a1", ""), Refusal.BAD_ID),
        (cluster("", "fra1"), Refusal.BAD_ID),
    ],
)
def test_a_bad_record_is_refused_by_itself(record: object, reason: Refusal) -> None:
    fleet = Fleet()
    account = fold_fleet(fleet, record, region("good"))  # type: ignore[arg-type]
    assert [(one.offset, one.reason) for one in account.refused["fleet.inventory"]] == [(0, reason)]
    assert columns(fleet)["regions"] == {"good"}


@pytest.mark.parametrize(
    "key", [b"", b"a1", b"router:a1", b"appliance:", b"\xff\xfe:a", b"network:203.0.114.1/24"]
)
def test_a_tombstone_that_names_nothing_is_refused(key: bytes) -> None:
    account = fold_fleet(Fleet(), tombstones=[key])
    assert account.refused["fleet.inventory"][0].reason is Refusal.BAD_KEY


def test_a_tombstone_of_what_never_was_changes_nothing() -> None:
    fleet = Fleet()
    account = fold_fleet(fleet, tombstones=[b"appliance:a1", b"site:s", b"region:r", b"cluster:c"])
    assert account.folded["fleet.inventory"] == 4
    assert fleet.version == 0
    assert len(fleet.appliances) == 0


def test_networks_that_were_all_refused_leave_a_tombstone_of_another_to_its_work() -> None:
    fleet = fleet_of(*SMALL)
    bad = network("203.0.115.0/24", lat=91.0)
    fold_fleet(fleet, bad, tombstones=[b"network:203.0.114.0/24"])
    assert fleet.network_hi.size == 0


def test_records_of_another_partition_are_refused() -> None:
    partitions = 8
    here = partition_of("eu", partitions)
    other = next(name for name in map(str, range(100)) if partition_of(name, partitions) != here)
    records = (region(), region(other), site("s", region=other), network("203.0.114.0/24"))
    rows, account, fleet = topic_rows("fleet.inventory", records), Account(), Fleet()
    account.arrive(rows)
    fleet.fold(rows, here, partitions, 0, account)
    account.close()
    assert {one.reason for one in account.refused["fleet.inventory"]} == {Refusal.WRONG_PARTITION}
    assert account.folded["fleet.inventory"] == 2
    assert fleet.partition == here


def test_ids_are_dense_stable_and_found_in_columns() -> None:
    ids = Ids()
    assert ids.add_all(["b", "a", "b"]).tolist() == [0, 1, 0]
    names = topic_rows("x", [appliance("a"), appliance("zz")]).frames["Appliance"]
    assert ids.index(names.get_column("appliance")).tolist() == [1, -1]
    assert ids.add("zz") == 2
    assert ids.index(names.get_column("appliance")).tolist() == [1, 2]
    assert ids.index(names.get_column("appliance")).dtype == np.int32
    assert Ids().index(names.get_column("appliance")).tolist() == [-1, -1]
    assert (ids.get("a"), ids.get("none"), len(ids)) == (1, -1, 3)


def test_ids_of_a_long_column_are_those_of_a_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_ids, "_SPARE", 1)  # two of three names share their slot
    names = [f"appliance-{number}" for number in range(3000)]
    ids = Ids.of(names[:2000])
    asked = np.random.default_rng(2).integers(0, len(names), 5000).tolist()
    column = pl.Series([names[at] for at in asked], dtype=pl.String)
    assert ids.index(column).tolist() == [at if at < 2000 else -1 for at in asked]
    ids.add_all(names)
    assert ids.index(column).tolist() == asked
    assert ids.index(column).dtype == np.int32
    with_none = pl.Series([*column.to_list(), None], dtype=pl.String)
    assert ids.index(with_none).tolist() == [*asked, -1]
    assert Ids().index(column).tolist() == [-1] * len(asked)
