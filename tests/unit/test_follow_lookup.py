import pytest

from pipeline.errors import WireError
from pipeline.follow.lookup import place, who
from pipeline.follow.table import SteeringTable
from pipeline.reasons import Reason
from pipeline.wire.address import format_prefix, parse_address
from schemas.registry import LB_WEIGHTS, STEERING_PREFIXES
from tests.follow_world import World, choice, group, group_id, prefix, weights

ALL = (10000, 10000, 10000)
NONE = (0, 0, 0)


def asked(table: SteeringTable, address: str, *args: str) -> str | None:
    answer = who(table, parse_address(address), *args)
    return answer and format_prefix(answer.prefix)


def nested() -> World:
    world = World(SteeringTable())
    world.publish(
        [
            weights("eu", "ams", a1=6000, a2=4000),
            weights("eu", "fra", f1=10000),
            weights("eu", "lhr", l1=10000),
            group("eu", 1, [choice("fra", *ALL, path=3, distance_km=9), choice("lhr", *NONE)]),
            group(
                "eu",
                2,
                [
                    choice("ams", 7000, 0, 10000, path=2),
                    choice("fra", 3000, 10000, 0, tier=1, path=3, distance_km=9),
                    choice("lhr", *NONE, tier=1),
                ],
                [
                    ("ams", "LIVE", Reason.CLASS_NOT_SERVED),
                    ("ams", "VOD", Reason.SITE_FULL),
                    ("par", "VOD", Reason.NO_CAPACITY),
                ],
            ),
            prefix("eu", "203.0.0.0/16", 1),
            prefix("eu", "203.0.113.0/24", 2),
            prefix("eu", "2001:db8::/32", 1),
        ]
    )
    return world


def test_the_longest_covering_prefix_answers() -> None:
    table = nested().table
    assert asked(table, "203.0.113.7") == "203.0.113.0/24"
    assert asked(table, "203.0.7.7") == "203.0.0.0/16"
    assert asked(table, "2001:db8::1") == "2001:db8::/32"


def test_an_address_that_no_prefix_covers_has_no_answer() -> None:
    table = nested().table
    assert asked(table, "198.51.100.1") is None
    assert asked(table, "2001:db9::1") is None
    assert asked(table, "203.0.113.7", "VOD", "us") is None
    assert asked(SteeringTable(), "203.0.113.7") is None


def test_sites_come_in_rank_order_with_share_and_appliances() -> None:
    answer = who(nested().table, parse_address("203.0.113.7"), "VOD")
    assert answer is not None
    assert (answer.region, answer.group, answer.cut) == ("eu", group_id(2), 1)
    assert [(each.site, each.rank, each.share) for each in answer.sites] == [
        ("ams", 1, 7000),
        ("fra", 2, 3000),
    ]
    assert [(one.appliance, one.weight) for one in answer.sites[0].appliances] == [
        ("a1", 6000),
        ("a2", 4000),
    ]


def test_each_class_has_its_own_shares_and_reasons() -> None:
    table, address = nested().table, parse_address("203.0.113.7")
    live = who(table, address, "LIVE")
    assert live is not None
    assert [(each.site, each.share, each.reason) for each in live.sites] == [
        ("fra", 10000, Reason.SPILL_OVER)
    ]
    assert [(each.site, each.reason) for each in live.passed_over] == [
        ("ams", Reason.CLASS_NOT_SERVED),
        ("lhr", Reason.BEYOND_RANK),
    ]


def test_every_site_passed_over_has_a_reason_and_unranked_ones_are_named_too() -> None:
    answer = who(nested().table, parse_address("203.0.113.7"), "VOD")
    assert answer is not None
    assert [(each.site, each.reason) for each in answer.sites] == [
        ("ams", Reason.SITE_FULL),
        ("fra", Reason.SPILL_OVER),
    ]
    assert [(each.site, each.rank, each.reason) for each in answer.passed_over] == [
        ("lhr", 3, Reason.BEYOND_RANK),
        ("par", 0, Reason.NO_CAPACITY),
    ]


def test_a_sites_key_names_the_prefix_it_announced_itself() -> None:
    answer = who(nested().table, parse_address("203.0.113.7"), "VOD")
    assert answer is not None
    ams, fra = (each.key for each in answer.sites)
    assert ams.announced is not None
    assert fra.announced is not None
    assert (format_prefix(ams.announced), ams.as_path_len) == ("203.0.113.0/24", 2)
    assert (format_prefix(fra.announced), fra.tier, fra.distance_km) == ("203.0.0.0/16", 1, 9)


def test_a_key_whose_announcement_the_table_does_not_show_says_none() -> None:
    world = World(SteeringTable())
    world.publish([group("eu", 1, [choice("fra", *ALL, tier=1)]), prefix("eu", "10.0.0.0/8", 1)])
    answer = who(world.table, parse_address("10.1.1.1"))
    assert answer is not None
    assert answer.sites[0].key.announced is None


def test_a_site_without_weights_is_named_without_appliances() -> None:
    world = nested()
    world.publish([(LB_WEIGHTS.name, b"ams", None)])
    answer = who(world.table, parse_address("203.0.113.7"))
    assert answer is not None
    assert answer.sites[0].appliances == ()
    placed = place(answer, 1)
    assert placed is not None
    assert placed.site == "fra"


def two_regions(
    a: dict[str, int | None], b: dict[str, int | None], b_text: str = "10.0.0.0/8"
) -> str:
    table = SteeringTable()
    for partition, (name, text, figures) in enumerate([("aa", "10.0.0.0/8", a), ("bb", b_text, b)]):
        World(table, partition).publish(
            [group(name, 1, [choice(f"{name}-1", *ALL, **figures)]), prefix(name, text, 1)]
        )
    answer = who(table, parse_address("10.1.2.3"))
    assert answer is not None
    return answer.region


def test_among_regions_the_longer_prefix_then_the_nearer_first_site_then_the_name_wins() -> None:
    assert two_regions({"path": 1}, {"path": 9}, "10.1.0.0/16") == "bb"
    assert two_regions({"path": 3}, {"path": 2}) == "bb"
    assert two_regions({"med": 20}, {"med": 10}) == "bb"
    assert two_regions({"med": None}, {"med": 10}) == "bb"
    assert two_regions({"rtt_ms": 20}, {"rtt_ms": 10}) == "bb"
    assert two_regions({"distance_km": 20}, {"distance_km": 10}) == "bb"
    assert two_regions({}, {}) == "aa"


def test_a_region_may_be_asked_for_by_name() -> None:
    table = SteeringTable()
    for partition, name in enumerate(["aa", "bb"]):
        World(table, partition).publish(
            [group(name, 1, [choice("s", *ALL)]), prefix(name, "10.0.0.0/8", 1)]
        )
    answer = who(table, parse_address("10.1.2.3"), "VOD", "bb")
    assert answer is not None
    assert (answer.region, answer.partition) == ("bb", 1)


def test_a_class_that_no_site_can_serve_is_placed_nowhere() -> None:
    world = World(SteeringTable())
    world.publish([group("eu", 1, [choice("ams", 10000, 0, 0)]), prefix("eu", "10.0.0.0/8", 1)])
    answer = who(world.table, parse_address("10.1.2.3"), "GAME")
    assert answer is not None
    assert answer.sites == ()
    assert place(answer, 7) is None


def test_a_published_record_that_cannot_be_read_is_an_error_that_says_so() -> None:
    world = nested()
    topic, key, _ = prefix("eu", "203.0.113.0/24", 2)
    world.publish([(topic, key, b"rubbish")])
    with pytest.raises(WireError):
        who(world.table, parse_address("203.0.113.7"))
    assert world.table.verify() == []


def test_a_key_that_is_no_prefix_disturbs_no_lookup() -> None:
    world = nested()
    rubbish = [b"short", bytes(16) + b"\xff" + b"eu", bytes(16)]
    world.publish([(STEERING_PREFIXES.name, key, b"x") for key in rubbish])
    assert asked(world.table, "203.0.113.7") == "203.0.113.0/24"
