"""What cells tell each other of shared sites, as it is remembered; and who shares what."""

import pytest

from pipeline.decide.exchange import parts
from pipeline.reasons import Noted, Refusal
from pipeline.state.sharing import Claim, Grant, Sharing
from pipeline.wire.encode import encode
from pipeline.wire.rows import Account
from schemas.partition import partition_of
from schemas.registry import CAPACITY_PRICES
from tests.frames import fleet_of, fold_fleet, region, site, topic_rows

PARTITIONS = 64
HERE = partition_of("eu", PARTITIONS)


def claim(region_: str = "us", to: str = "eu", **fields: object) -> tuple[str, dict[str, object]]:
    given = {"site": "x", "region": region_, "to": to, "cut": 7, "at_ms": 1, "want_bps": 5}
    return "CapacityClaim", {
        **given,
        "load_bps": 4,
        "price": 3,
        "share": 2,
        "grant_cut": 1,
        **fields,
    }


def grant(region_: str = "us", to: str = "eu", **fields: object) -> tuple[str, dict[str, object]]:
    given = {"site": "y", "region": region_, "to": to, "cut": 9, "at_ms": 1, "share": 2500}
    return "CapacityGrant", {**given, **fields}


def fold(sharing: Sharing, *records: tuple[str, dict[str, object]], **more: object) -> Account:
    rows = topic_rows(CAPACITY_PRICES.name, records, **more)  # type: ignore[arg-type]
    account = Account()
    account.arrive(rows)
    sharing.fold(rows, HERE, PARTITIONS, account)
    account.close()
    return account


def test_the_highest_cut_of_a_sender_counts_whatever_the_order() -> None:
    sharing = Sharing()
    fold(sharing, claim(cut=8, want_bps=80), claim(cut=7), grant(cut=9), grant(cut=8, share=1))
    assert sharing.claims == {("x", "us"): Claim(8, 80, 4, 3, 2, 1)}
    assert sharing.granted == {("y", "eu", "us"): Grant(9, 2500)}
    account = fold(sharing, claim(cut=8, want_bps=80), claim(cut=6), claim("ap", cut=1))
    assert account.notes == {Noted.DUPLICATE: 1, Noted.REORDERED: 1}
    assert set(sharing.claims) == {("x", "us"), ("x", "ap")}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (claim(site=""), Refusal.BAD_ID),
        (claim("a|b"), Refusal.BAD_ID),
        (claim(to="elsewhere"), Refusal.WRONG_PARTITION),
        (grant(to="elsewhere"), Refusal.WRONG_PARTITION),
        (claim(want_bps=-1), Refusal.OUT_OF_RANGE),
        (claim(share=10_001), Refusal.OUT_OF_RANGE),
        (grant(share=10_001), Refusal.OUT_OF_RANGE),
    ],
)
def test_what_cannot_be_is_refused_by_itself(
    record: tuple[str, dict[str, object]], reason: Refusal
) -> None:
    sharing = Sharing()
    account = fold(sharing, record, claim())
    assert [one.reason for one in account.refused[CAPACITY_PRICES.name]] == [reason]
    assert set(sharing.claims) == {("x", "us")}
    assert not sharing.granted


def test_a_tombstone_forgets_what_it_names() -> None:
    sharing = Sharing()
    fold(sharing, claim(), grant())
    account = fold(sharing, tombstones=[b"x|us|eu", b"y|us|eu", b"nothing", b"a||b"])
    assert not sharing.claims
    assert not sharing.granted
    assert [one.reason for one in account.refused[CAPACITY_PRICES.name]] == [Refusal.BAD_KEY] * 2


def test_a_home_has_all_until_it_gives_and_a_guest_nothing_until_it_is_given() -> None:
    fleet = fleet_of(
        region(),
        site("x", regions=["eu", "us"]),
        site("y", regions=["us", "eu"]),
        site(
            "z", regions=["us", "ap"]
        ),  # its record stands here, and does not say that it serves eu
        site("own"),
    )
    sharing = Sharing()
    part, shared = parts(fleet, sharing)
    assert dict(zip(fleet.sites.names, part.tolist(), strict=True)) == {
        "x": 10_000, "y": 0, "z": 10_000, "own": 10_000,
    }  # fmt: skip
    assert shared.tolist() == [True, True, False, False]
    fold(sharing, grant())
    sharing.given["x", "eu"] = Grant(3, 6000)
    assert parts(fleet, sharing)[0].tolist() == [6000, 2500, 10_000, 10_000]
    assert encode(*grant())  # the schema has just these fields
    fold_fleet(fleet, site("x"))
    assert parts(fleet, sharing)[1].tolist() == [False, True, False, False]


def test_a_site_with_a_region_that_nobody_may_be_called_is_refused() -> None:
    account = fold_fleet(fleet_of(region()), site("x", regions=["eu", ""]), site("y"))
    assert [one.reason for one in account.refused["fleet.inventory"]] == [Refusal.BAD_ID]
