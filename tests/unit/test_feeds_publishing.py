"""Publishers' side: reports and their keys, what the registry refuses, peer rules."""

import pytest

from pipeline.errors import UsageError
from pipeline.feeds import reports
from pipeline.feeds.keys import inventory_key, route_key
from pipeline.feeds.peers import PeerRules
from pipeline.feeds.publisher import check
from pipeline.wire.address import parse_address, parse_prefix
from pipeline.wire.decode import decode
from pipeline.wire.encode import encode
from schemas.registry import BY_NAME, TOPICS, Cleanup

GIVEN = [
    reports.HealthReport.of({"appliance": "c1", "egress_bps": 1, "capacity_bps": 2, "cpu": 0.5}),
    reports.RouteReport.of(
        {"site": "fra1", "peer": "80.249.208.10", "prefix": "8.8.8.0/24", "as_path": "3356 {1,2}",
         "communities": ["3356:3", 7], "next_hop": "2001:db8::1", "path_id": 4}),
    reports.PeerUpReport.of({"site": "fra1", "peer": "2001:DB8::1"}),
    reports.PeerDownReport.of({"site": "fra1", "peer": "2001:db8::1", "cause": "hold timer"}),
    reports.EndOfRibReport.of({"site": "fra1", "peer": "2001:db8::1"}),
    reports.PathReport.of({"site": "fra1", "client": "2a00::/48", "rtt_us": 9000}),
    reports.LinkReport.of({"link": "fra1-ix", "used_bps": 5, "capacity_bps": 9}),
    reports.PlayReport.of(
        {"session": 7, "event": "START", "client": "8.8.8.8", "appliance": "c1", "bytes": 9}),
]  # fmt: skip
KEYS = [
    b"c1",
    b"fra1|80.249.208.10|8.8.8.0/24|4",
    b"fra1|2001:db8::1|session",
    b"fra1|2001:db8::1|session",
    b"fra1|2001:db8::1|eor",
    b"fra1|2a00::/48",
    b"fra1-ix",
    b"7",
]


@pytest.mark.parametrize(("report", "key"), list(zip(GIVEN, KEYS, strict=True)))
def test_a_report_travels_on_its_topic_under_its_key(report: reports.Report, key: bytes) -> None:
    value = encode(report.name, report.record())
    assert decode(value)[0] == report.name
    assert report.key() == key
    check(report.topic.name, [report.key()], [value])


def test_a_route_report_says_what_a_feed_would() -> None:
    record = GIVEN[1].record()
    assert record["prefix"] == parse_prefix("8.8.8.0/24")
    assert record["next_hop"] == parse_address("2001:db8::1")
    assert (record["as_path_len"], record["communities"]) == (2, [3356 << 16 | 3, 7])
    assert route_key("fra1", "80.249.208.10", "8.8.8.0/24", 4) == KEYS[1]
    assert inventory_key("site", "fra1") == b"site:fra1"


@pytest.mark.parametrize(
    ("path", "hops"),
    [
        ("", 0),
        ("1 2 3", 3),
        ("1 {2,3}", 2),
        ("(65001 65002) 1", 1),
        ("[1,2] {3}", 1),
        ("{1, 2} 3", 2),
    ],
)
def test_paths_as_text_count_as_paths_on_the_wire(path: str, hops: int) -> None:
    assert reports.hops_of(path) == hops


HEALTH = {"appliance": "c1", "egress_bps": 1, "capacity_bps": 2}
ROUTE = {"site": "fra1", "peer": "8.8.8.8", "prefix": "8.8.8.0/24"}
PLAY = {"session": 7, "event": "START", "client": "8.8.8.8", "appliance": "c1"}


@pytest.mark.parametrize(
    ("kind", "given", "names"),
    [
        (reports.HealthReport, HEALTH | {"egress_bps": -1}, "egress_bps"),
        (reports.HealthReport, HEALTH | {"appliance": ""}, "appliance"),
        (reports.HealthReport, HEALTH | {"appliance": "a|b"}, "appliance"),
        (reports.HealthReport, HEALTH | {"cpu": float("nan")}, "cpu"),
        (reports.HealthReport, HEALTH | {"colour": "red"}, "colour"),
        (reports.RouteReport, ROUTE | {"prefix": "8.8.8.1/24"}, "host_bits"),
        (reports.RouteReport, ROUTE | {"prefix": "8.8.8.0/33"}, "bad_prefix_length"),
        (reports.RouteReport, ROUTE | {"peer": "nobody"}, "peer"),
        (reports.RouteReport, ROUTE | {"communities": ["1:99999"]}, "communities"),
        (reports.RouteReport, ROUTE | {"action": "WITHDRAW", "as_path": "1"}, "as_path"),
        (reports.PlayReport, PLAY | {"session": 1 << 63}, "session"),
    ],
)
def test_mistakes_are_named_where_their_author_sees_them(
    kind: type[reports.Report], given: dict[str, object], names: str
) -> None:
    with pytest.raises(UsageError, match=names):
        kind.of(given)


def test_the_registry_decides_what_travels_where() -> None:
    health = encode("Health", GIVEN[0].record())
    for topic in TOPICS:
        if "Health" not in topic.records:
            with pytest.raises(UsageError, match="does not travel"):
                check(topic.name, [b"k"], [health])
    with pytest.raises(UsageError, match="no topic"):
        check("appliance.helth", [b"k"], [health])
    with pytest.raises(UsageError, match="no known schema"):
        check("appliance.health", [b"k"], [b"{}"])
    with pytest.raises(UsageError, match="2 values"):
        check("appliance.health", [b"k"], [health, health])


def test_tombstones_and_missing_keys_follow_from_the_cleanup_policy() -> None:
    for name, topic in BY_NAME.items():
        if topic.cleanup is Cleanup.DELETE:
            with pytest.raises(UsageError, match="tombstone"):
                check(name, [b"k"], [None])
        else:
            check(name, [b"k"], [None])
            with pytest.raises(UsageError, match="without a key"):
                check(name, [b""], [None])


def test_peers_match_by_address_then_number_then_star() -> None:
    rules = PeerRules(["2001:DB8:0::1=a", "AS3356=b", "1299=c", "*=d"])
    assert rules.site_of("2001:db8::1", 3356) == "a"
    assert rules.site_of("8.8.8.8", 3356) == "b"
    assert rules.site_of("8.8.8.8", 1299) == "c"
    assert rules.site_of("8.8.8.8", 7) == "d"
    assert rules.sites == ["a", "b", "c", "d"]
    assert PeerRules(["1299=c", "AS1299=c"]).site_of("8.8.8.8", 7) == ""


@pytest.mark.parametrize(
    "texts",
    [
        ["fra1"],
        ["=fra1"],
        ["1299="],
        ["nobody=fra1"],
        ["4294967296=fra1"],
        ["1299=a|b"],
        ["1299=a", "AS1299=b"],
        ["*=a", "*=b"],
        ["::1=a", "0::1=b"],
    ],
)
def test_peer_rules_that_are_none_are_named(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="--peer"):
        PeerRules(texts)
