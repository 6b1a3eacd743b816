"""The route section: what is refused, what is noted, what a flush does, in the log's order."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.config import ProximityConfig, SteeringConfig
from pipeline.reasons import Noted, Refusal
from pipeline.state.routes import Routes
from pipeline.wire.address import parse_prefix, prefix_bytes
from pipeline.wire.rows import OFFSET, Account, TopicRows
from tests.frames import CONFIG, NOW_MS, fleet_of, region, site, topic_rows

TOPIC = "bgp.routes"


def route(prefix: str | bytes = "11.0.0.0/24", **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {
        "site": "fra1", "peer": "192.0.2.1", "peer_asn": 64500, "path_id": 0, "action": "ANNOUNCE",
        "as_path": "64500 64501", "as_path_len": 2, "med": None, "local_pref": None,
        "communities": [], "next_hop": bytes(16), "at_ms": NOW_MS,
        "prefix": prefix if isinstance(prefix, bytes) else parse_prefix(prefix),
    }  # fmt: skip
    return "Route", {**given, **fields}


def session(kind: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    given = {"site": "fra1", "peer": "192.0.2.1", "at_ms": NOW_MS}
    more = {"PeerUp": {"peer_asn": 1}, "PeerDown": {"peer_asn": 1, "cause": ""}, "EndOfRib": {}}
    return kind, {**given, **more[kind], **fields}


def fold(
    routes: Routes,
    *records: tuple[str, dict[str, Any]],
    tombstones: tuple[bytes, ...] = (),
    config: SteeringConfig = CONFIG,
    fleet: Any = None,
) -> Account:
    rows = topic_rows(TOPIC, records, tombstones=tombstones)
    account = Account()
    account.arrive(rows)
    routes.fold(rows, NOW_MS, config, account, fleet)
    account.close()
    return account


def refused(account: Account) -> list[tuple[int, Refusal]]:
    return [(one.offset, one.reason) for one in account.refused.get(TOPIC, [])]


DOCUMENTED = SteeringConfig(proximity=ProximityConfig(allow_documentation_prefixes=True))


def bits(address: int, length: int) -> bytes:
    return address.to_bytes(16, "big") + bytes([length])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (route(site=""), Refusal.BAD_ID),
        (route(peer=""), Refusal.BAD_ID),
        (route(site="s" * 129), Refusal.BAD_ID),
        (route(site="a\x1fb"), Refusal.BAD_ID),
        (route(peer="a|b"), Refusal.BAD_ID),
        (route(bits(0x2600 << 112, 129)), Refusal.BAD_PREFIX_LENGTH),
        (route(bits(0xFFFF << 32 | 11 << 24, 95)), Refusal.BAD_PREFIX_LENGTH),
        (route(bits(0xFFFF << 32 | 11 << 24 | 1, 120)), Refusal.HOST_BITS),
        (route(bits(0x2600 << 112 | 1, 64)), Refusal.HOST_BITS),
        (route(bits(0x2600 << 112 | 1, 127)), Refusal.HOST_BITS),
        (route("0.0.0.0/0"), Refusal.DEFAULT_ROUTE),
        (route("::/0"), Refusal.DEFAULT_ROUTE),
        (route("10.1.0.0/16"), Refusal.BOGON),
        (route("100.64.0.0/10"), Refusal.BOGON),
        (route("224.1.0.0/16"), Refusal.BOGON),
        (route("203.0.113.0/24"), Refusal.BOGON),
        (route("2001:db8:1::/48"), Refusal.BOGON),
        (route("fe80::/64"), Refusal.BOGON),
        (route(as_path_len=256), Refusal.AS_PATH_TOO_LONG),
        (route(as_path_len=1000), Refusal.AS_PATH_TOO_LONG),
        (route(as_path_len=-1), Refusal.OUT_OF_RANGE),
        (route(med=-1), Refusal.OUT_OF_RANGE),
        (route(med=2**32), Refusal.OUT_OF_RANGE),
        (route(path_id=-1), Refusal.OUT_OF_RANGE),
        (route(path_id=2**32), Refusal.OUT_OF_RANGE),
        (route(at_ms=NOW_MS + 300_001), Refusal.FROM_THE_FUTURE),
        (session("PeerDown", site=""), Refusal.BAD_ID),
        (session("PeerUp", at_ms=NOW_MS + 300_001), Refusal.FROM_THE_FUTURE),
        (session("EndOfRib", peer=""), Refusal.BAD_ID),
    ],
)
def test_a_bad_row_is_refused_by_itself_with_its_reason(
    bad: tuple[str, dict[str, Any]], reason: Refusal
) -> None:
    routes = Routes()
    account = fold(routes, route("11.1.0.0/24"), bad, route("11.2.0.0/24"))
    assert refused(account) == [(1, reason)]
    assert account.folded[TOPIC] == 2
    assert len(routes) == 2


@pytest.mark.parametrize("attributes", [{"as_path_len": 256}, {"med": -1}, {"as_path_len": -1}])
def test_an_announcement_with_refused_attributes_takes_the_older_route_away(
    attributes: dict[str, int],
) -> None:
    routes = Routes()
    account = fold(routes, route("11.1.0.0/24"), route("11.1.0.0/24", **attributes))
    assert len(routes) == 0
    assert account.folded[TOPIC] == 1
    assert len(refused(account)) == 1
    assert not account.notes
    fold(routes, route("11.1.0.0/24"))
    assert len(routes) == 1


def test_what_looks_odd_but_is_right_is_folded() -> None:
    routes = Routes()
    account = fold(
        routes,
        route("11.0.0.0/8"),
        route("11.0.0.1/32"),
        route("2600::1/128"),
        route("192.0.0.0/8"),  # covers bogons, is none
        route(as_path_len=255, med=2**32 - 1),
        route(as_path_len=0, path_id=2**32 - 1),
        route("11.4.0.0/16", at_ms=0),  # a dump of long ago
        route("11.5.0.0/16", at_ms=NOW_MS + 300_000),
    )
    assert not account.refused
    assert len(routes) == 8


def test_documentation_prefixes_are_folded_where_the_configuration_says_so() -> None:
    routes = Routes()
    account = fold(routes, route("203.0.113.0/24"), route("2001:db8::/32"), config=DOCUMENTED)
    assert not account.refused
    assert len(routes) == 2


def test_the_same_announcement_again_is_a_duplicate_and_changes_nothing() -> None:
    routes = Routes()
    fold(routes, route())
    version = routes.version
    account = fold(routes, route(), route(med=5), route(med=5))
    assert account.notes[Noted.DUPLICATE] == 2
    assert routes.version == version + 1
    assert fold(routes, route(med=5)).notes == {Noted.DUPLICATE: 1}
    assert routes.version == version + 1


def test_withdrawing_what_was_never_announced_is_noted() -> None:
    routes = Routes()
    account = fold(
        routes,
        route(action="WITHDRAW"),
        route(),
        route(action="WITHDRAW", path_id=7),
        route(action="WITHDRAW"),
        route(action="WITHDRAW"),
    )
    assert account.notes == {Noted.WITHDRAWN_UNKNOWN: 3}
    assert len(routes) == 0


def test_a_flush_counts_where_it_stands_in_the_log() -> None:
    routes = Routes()
    fold(routes, route("11.1.0.0/24"), route("11.1.0.0/24", peer="192.0.2.2"))
    account = fold(
        routes,
        route("11.2.0.0/24"),
        session("PeerDown"),
        route("11.3.0.0/24"),
        route("11.4.0.0/24"),
        session("PeerUp"),
        route("11.4.0.0/24"),
        session("EndOfRib"),
    )
    assert account.notes == {Noted.PEER_FLUSH: 4}
    assert account.folded[TOPIC] == 7
    rows = routes.all_rows()
    assert len(routes) == len(rows.prefix) == 2  # 11.1 of the other peer, 11.4


def test_parts_are_all_prefixes_in_order_and_all_live_routes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.state.routes._PART", 3)
    routes = Routes()
    numbers = [*range(9), 3, 3, 8, 0]
    made = [route(f"11.{one}.0.0/24", path_id=at) for at, one in enumerate(numbers)]
    gone = [route(f"11.{one}.0.0/24", path_id=one, action="WITHDRAW") for one in (2, 8)]
    fold(routes, *made, *gone)
    parts = list(routes.parts())
    assert len(parts) > 3
    assert np.concatenate([ids for ids, _ in parts]).tolist() == list(range(9))
    for ids, rows in parts:
        assert set(rows.prefix.tolist()) <= set(ids.tolist())
    found = [(*one,) for _, rows in parts for one in zip(rows.prefix, rows.attribute, strict=True)]
    whole = routes.all_rows()
    assert sorted(found) == sorted(zip(whole.prefix, whole.attribute, strict=True))


def test_a_flush_of_a_peer_that_announced_nothing_is_folded() -> None:
    routes = Routes()
    account = fold(routes, session("PeerDown"), session("PeerUp", site="par1"))
    assert account.notes[Noted.PEER_FLUSH] == 0
    assert len(routes) == 0


def test_tombstones_withdraw_and_those_of_sessions_do_nothing() -> None:
    routes = Routes()
    fold(routes, route("11.1.0.0/24"), route("2600:1::/48", path_id=3))
    account = fold(
        routes,
        tombstones=(
            b"fra1|192.0.2.1|session",
            b"fra1|192.0.2.1|eor",
            b"fra1|192.0.2.1|11.1.0.0/24|0",
            b"fra1|192.0.2.1|2600:1::/48|3",
            b"fra1|192.0.2.1|2600:1::/48|4",
        ),
    )
    assert account.folded[TOPIC] == 5
    assert account.notes == {Noted.WITHDRAWN_UNKNOWN: 1}
    assert len(routes) == 0


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"fra1",
        b"\xff\xfe",
        b"fra1|192.0.2.1",
        b"fra1|192.0.2.1|else",
        b"fra1|192.0.2.1|11.1.0.0/24",
        b"fra1|192.0.2.1|11.1.0.1/24|0",
        b"fra1|192.0.2.1|11.1.0.0/33|0",
        b"fra1|192.0.2.1|11.1.0.0/24|x",
        b"fra1|192.0.2.1|11.1.0.0/24|4294967296",
        b"fra1|192.0.2.1|session|0",
        b"|192.0.2.1|11.1.0.0/24|0",
        b"fra1\x1f|192.0.2.1|11.1.0.0/24|0",
    ],
)
def test_a_tombstone_whose_key_names_nothing_is_refused(key: bytes) -> None:
    routes = Routes()
    fold(routes, route("11.1.0.0/24"))
    assert refused(fold(routes, tombstones=(key,))) == [(0, Refusal.BAD_KEY)]
    assert len(routes) == 1


def test_routes_of_a_site_that_the_inventory_does_not_have_are_noted_and_kept() -> None:
    routes = Routes()
    fleet = fleet_of(region(), site("fra1"))
    account = fold(routes, route(), route(site="mars"), route(site="mars"), fleet=fleet)
    assert account.notes[Noted.UNPLACED_ROUTE] == 2
    assert len(routes) == 2


ACTIONS = pl.Enum(["ANNOUNCE", "WITHDRAW"])


def test_a_peer_with_a_hundred_thousand_routes_goes_down_at_once() -> None:
    count = 100_000
    lo = np.uint64(0xFFFF << 32 | 11 << 24) + (np.arange(count, dtype=np.uint64) << np.uint64(7))
    joined = prefix_bytes(np.zeros(count, np.uint64), lo, np.full(count, 121, np.uint8)).tobytes()
    frame = pl.DataFrame(
        {
            OFFSET: np.arange(count),
            "site": pl.repeat("fra1", count, eager=True),
            "peer": pl.repeat("192.0.2.1", count, eager=True),
            "prefix": [joined[at : at + 17] for at in range(0, 17 * count, 17)],
            "path_id": np.zeros(count, np.int64),
            "action": pl.repeat("ANNOUNCE", count, dtype=pl.String, eager=True).cast(ACTIONS),
            "as_path_len": np.ones(count, np.int32),
            "med": np.arange(count),
            "at_ms": np.zeros(count, np.int64),
        }
    )
    routes, account = Routes(), Account()
    rows = TopicRows(TOPIC, {"Route": frame})
    account.arrive(rows)
    routes.fold(rows, NOW_MS, CONFIG, account)
    account.close()
    fold(routes, route("12.0.0.0/24", peer="192.0.2.2"))
    assert len(routes) == count + 1
    generation = routes.generation
    account = fold(routes, session("PeerDown"))
    assert account.notes == {Noted.PEER_FLUSH: count}
    assert len(routes) == len(routes.all_rows().prefix) == 1
    assert routes.generation == generation + 1  # numbered anew: the dead were more than the living
    assert len(routes.prefixes) == 1


def test_what_changed_is_told_once_to_each_who_asks() -> None:
    routes = Routes()
    fold(routes, route("11.1.0.0/24"), route("11.2.0.0/24"))
    first = routes.version
    assert routes.changes_since(first).tolist() == []
    fold(routes, route("11.2.0.0/24", med=9))
    fold(routes, route("11.3.0.0/24"))
    assert routes.changes_since(first).tolist() == [1, 2]
    assert routes.changes_since(routes.version).tolist() == []
