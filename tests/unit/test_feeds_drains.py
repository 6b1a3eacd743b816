"""Orders of operators: found by name, published, listed, and kept when the inventory changes."""

import pytest

from pipeline.errors import UsageError
from pipeline.feeds.drains import DRAIN, UNDRAIN, Target, find_target, ordered, standing
from pipeline.feeds.fleetfile import Item
from pipeline.feeds.inventory import Current, changes, known

EU, US = Target("region", "eu", "eu"), Target("region", "us", "us")
FRA = Target("site", "fra1", "eu")


def inventory(*names: tuple[str, str, str]) -> Current:
    """(record, id, region) of each."""
    return {
        (region, f"{name.lower()}:{entity}".encode()): Item(
            name, region, {name.lower(): entity, "region": region}
        )
        for name, entity, region in names
    }


def with_order(current: Current, target: Target, action: str, deadline_ms: int) -> Current:
    made = dict(current)
    for change in ordered(target, action, 5, deadline_ms):
        assert change.item is not None
        made[change.region, change.key] = change.item
    return made


SMALL = inventory(("Region", "eu", "eu"), ("Region", "us", "us"), ("Site", "fra1", "eu"))


def test_a_site_or_region_is_found_by_name() -> None:
    assert find_target(SMALL, "fra1") == find_target(SMALL, "site:fra1") == FRA
    assert find_target(SMALL, "eu") == find_target(SMALL, "region:eu") == EU
    assert FRA.key == b"drain:site:fra1"
    with pytest.raises(UsageError, match="did you mean fra1"):
        find_target(SMALL, "fra2")
    with pytest.raises(UsageError, match="`edgesteer fleet show` lists them"):
        find_target(SMALL, "nothing of the kind")


def test_a_name_of_both_has_to_be_told_apart() -> None:
    both = SMALL | inventory(("Site", "eu", "eu"))
    with pytest.raises(UsageError, match="say site:eu or region:eu"):
        find_target(both, "eu")
    assert find_target(both, "site:eu") == Target("site", "eu", "eu")


def test_what_stands_says_where_it_is_by_the_clock() -> None:
    current = with_order(SMALL, FRA, DRAIN, 100)
    (order,) = standing(current)
    assert (order.target, order.action, order.at_ms) == (FRA, DRAIN, 5)
    assert [order.words(at) for at in (99, 100)] == ["draining", "out of service"]
    (order,) = standing(with_order(current, FRA, UNDRAIN, 200))
    assert [order.words(at) for at in (150, 200)] == ["returning", "in service"]


def test_applying_a_file_undoes_no_drain_not_even_pruning() -> None:
    current = with_order(with_order(SMALL, FRA, DRAIN, 100), US, DRAIN, 100)
    same = {key: item for (_, key), item in SMALL.items()}
    assert list(changes(current, same, prune=True)) == []
    gone = [one.key for one in changes(current, {}, prune=True)]
    assert gone == [b"site:fra1", b"region:eu", b"region:us"]
    assert known(current) == known(SMALL)


def test_a_site_that_moves_to_another_region_stays_drained_there() -> None:
    current = with_order(SMALL, FRA, DRAIN, 100)
    moved = list(changes(current, {b"site:fra1": Item("Site", "us", {"region": "us"})}))
    drains = [one for one in moved if one.key == FRA.key]
    assert [(one.what, one.region, one.shown) for one in drains] == [
        ("changed", "us", False),
        ("removed", "eu", False),
    ]
    (before,) = [one.item for one in ordered(FRA, DRAIN, 5, 100)]
    assert before is not None
    assert drains[0].item == before.of("us")


def test_an_order_goes_to_every_region_that_it_concerns_and_is_listed_once() -> None:
    site = {"site": "x", "regions": ["eu", "us"]}
    current = SMALL | {
        (region, b"site:x"): Item("Site", region, {**site, "region": region})
        for region in ("eu", "us")
    }
    for name in ("x", "eu"):  # the site, and the region that is its home
        target = find_target(current, name)
        assert target.also == ("us",)
        orders = ordered(target, DRAIN, 5, 100)
        assert [(one.region, one.item and one.item.fields["region"]) for one in orders] == [
            ("eu", "eu"),
            ("us", "us"),
        ]
        (order,) = standing(with_order(current, target, DRAIN, 100))
        assert (order.target.entity, order.target.region) == (name, "eu")
    assert find_target(current, "us").also == ()
