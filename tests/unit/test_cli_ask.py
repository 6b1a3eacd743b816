"""The asking commands on a table that no broker brought: what they print and their status."""

import json
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from pipeline.cli.main import app
from pipeline.follow import follower
from pipeline.follow.table import SteeringTable
from tests.follow_world import World, choice, group, group_id, load, prefix, weights

BROKER = ["--broker", "127.0.0.1:9"]


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    published = World(SteeringTable())
    published.publish(
        [
            weights("eu", "ams", a1=6000, a2=4000),
            weights("eu", "fra", f1=10000),
            load("eu", "ams", "SPILLING", 1_002_001, 0, 0, vod_bps=1_000_000_000),
            load(
                "eu",
                "fra",
                "OVERFLOWING",
                0,
                -1,
                0,
                vod_bps=1_200_000_000,
                over_bps=200_000_000,
            ),
            load("eu", "lhr", "ROOM", 0, 0, 0, vod_bps=250_000_000),
            group(
                "eu",
                1,
                [
                    choice("ams", 7000, 0, 10000, med=10),
                    choice("fra", 3000, 10000, 0, tier=1, path=3, distance_km=360),
                    choice("lhr", 0, 0, 0, tier=1, path=3, distance_km=480),
                ],
                [("ams", "VOD", "site_full"), ("ams", "LIVE", "class_not_served")],
            ),
            group("eu", 2, [choice("fra", 10000, 10000, 10000, path=3)]),
            prefix("eu", "203.0.0.0/16", 2),
            prefix("eu", "203.0.113.0/24", 1),
            prefix("eu", "2001:db8::/32", 2),
        ]
    )

    async def taken(_broker: object, _topics: object = None) -> SteeringTable:
        return published.table

    monkeypatch.setattr(follower, "snapshot", taken)
    return published


def ask(*args: str) -> Result:
    return CliRunner().invoke(app, [*args, *BROKER])


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_who_prints_what_scripts_rely_on() -> None:
    (answer,) = lines(ask("who", "203.0.113.7", "--json"))
    assert answer["prefix"] == "203.0.113.0/24"
    assert answer["group"] == group_id(1).hex()
    assert [(each["site"], each["share"]) for each in answer["sites"]] == [
        ("ams", 7000),
        ("fra", 3000),
    ]
    assert [(one["appliance"], one["weight"]) for one in answer["sites"][0]["appliances"]] == [
        ("a1", 6000),
        ("a2", 4000),
    ]
    assert [(each["site"], each["reason"]) for each in answer["passed_over"]] == [
        ("lhr", "beyond_rank")
    ]
    assert "key" not in answer["sites"][0]


@pytest.mark.parametrize("command", [["who", "203.0.113.7"], ["table"]])
def test_an_answer_from_a_table_that_is_no_one_cut_comes_with_a_warning(
    world: World, command: list[str]
) -> None:
    assert "warning" not in ask(*command).stderr
    world.live["steering.sites", b"lost"] = b"on the way"
    world.publish([])
    warned = ask(*command)
    assert warned.exit_code == 0
    assert "warning: cell 0 is not what its Epoch of cut 2 says" in warned.stderr
    assert "edgesteer topics check" in warned.stderr


def test_who_why_adds_the_proximity_keys() -> None:
    (answer,) = lines(ask("who", "203.0.113.7", "--json", "--why"))
    assert answer["sites"][1]["key"] == {
        "announced": "203.0.0.0/16",
        "tier": 1,
        "as_path_len": 3,
        "med": None,
        "rtt_ms": None,
        "distance_km": 360,
    }
    assert answer["passed_over"][0]["key"]["distance_km"] == 480
    assert [each["price"] for each in answer["sites"]] == [1_002_001, 0]


def test_who_for_a_person_lines_up_sites_and_appliances() -> None:
    shown = ask("who", "203.0.113.7").stdout
    assert shown.splitlines() == [
        "203.0.113.7 vod: prefix 203.0.113.0/24 in eu, group 0000000000000001, cut 1",
        "",
        "site    share  reason      appliance    weight  state  reason",
        "ams   70.00 %  site_full   a1          60.00 %  UP     reported_ok",
        "                           a2          40.00 %  UP     reported_ok",
        "fra   30.00 %  spill_over  f1         100.00 %  UP     reported_ok",
    ]


def test_who_why_for_a_person_says_every_sites_reason_and_key() -> None:
    shown = ask("who", "203.0.113.7", "--why", "--class", "live").stdout.splitlines()
    assert [" ".join(line.split()) for line in shown[6:9]] == [
        "1 ams passed over class_not_served 203.0.113.0/24 2 10 - - 0",
        "2 fra serves spill_over 203.0.0.0/16 3 - - 360 km no room anywhere",
        "3 lhr passed over beyond_rank - 3 - - 480 km 0",
    ]
    assert "cost + price" in shown[-1]


def test_who_says_no_with_status_1_and_nothing_on_stdout() -> None:
    for args in (["198.51.100.1"], ["203.0.113.7", "--region", "us", "--json"]):
        result = ask("who", *args)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "no prefix in the table covers" in result.stderr


def test_weights_print_one_object_a_site() -> None:
    found = lines(ask("weights", "--json"))
    assert [(each["site"], each["cut"], each["weights"]) for each in found] == [
        ("ams", 1, {"a1": 6000, "a2": 4000}),
        ("fra", 1, {"f1": 10000}),
    ]
    assert lines(ask("weights", "fra", "--json")) == found[1:]
    assert ask("weights", "nowhere").exit_code == 1


def test_weights_for_a_person_name_each_site_once() -> None:
    assert ask("weights").stdout.splitlines()[1:] == [
        "ams     1  a1          60.00 %  UP     reported_ok",
        "           a2          40.00 %  UP     reported_ok",
        "fra     1  f1         100.00 %  UP     reported_ok",
    ]


def test_sites_are_told_the_fullest_first() -> None:
    assert [" ".join(line.split()) for line in ask("sites").stdout.splitlines()] == [
        "site region cut state of target target vod live game no room price",
        "fra eu 1 OVERFLOWING 120% 1 Gbps 1.2 Gbps 0 bps 0 bps 200 Mbps no room anywhere",
        "ams eu 1 SPILLING 100% 1 Gbps 1 Gbps 0 bps 0 bps - 1,002,001",
        "lhr eu 1 ROOM 25% 1 Gbps 250 Mbps 0 bps 0 bps - 0",
    ]
    (ams,) = lines(ask("sites", "ams", "--json"))
    assert (ams["state"], ams["load_bps"]["vod"], ams["price"]["vod"]) == (
        "SPILLING",
        1_000_000_000,
        1_002_001,
    )
    assert [each["site"] for each in lines(ask("sites", "--full", "--json"))] == ["fra", "ams"]
    assert ask("sites", "lhr", "--full").stdout == "all of 1 have room\n"
    assert ask("sites", "nowhere").exit_code == 1


def test_table_prints_prefixes_in_address_order_with_their_sites() -> None:
    found = lines(ask("table", "--json"))
    assert [each["prefix"] for each in found] == ["203.0.0.0/16", "203.0.113.0/24", "2001:db8::/32"]
    assert found[1]["sites"][0] == {"site": "ams", "shares": [7000, 0, 10000]}


def test_table_is_cut_to_a_prefix_and_to_a_limit() -> None:
    assert [
        each["prefix"] for each in lines(ask("table", "--prefix", "203.0.112.0/20", "--json"))
    ] == ["203.0.113.0/24"]
    limited = ask("table", "--limit", "1")
    assert len(limited.stdout.splitlines()) == 2
    assert "2 more of 3 prefixes" in limited.stderr
    assert ask("table", "--prefix", "10.0.0.0/8").exit_code == 1


def test_groups_print_ranked_sites_and_reasons() -> None:
    found = lines(ask("groups", "--json"))
    assert [each["group"] for each in found] == [group_id(1).hex(), group_id(2).hex()]
    assert found[0]["passed_over"][0] == {
        "site": "ams",
        "traffic_class": "VOD",
        "reason": "site_full",
    }
    shown = ask("groups", group_id(1).hex())
    assert "vod: ams passed over, site_full" in shown.stdout
    assert ask("groups", "ffff").exit_code == 1


def test_an_empty_table_is_status_1_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_broker: object, topics: Any = None) -> SteeringTable:
        return SteeringTable(topics) if topics else SteeringTable()

    monkeypatch.setattr(follower, "snapshot", nothing)
    for args in (["who", "10.0.0.1"], ["table"], ["groups"], ["weights"]):
        result = ask(*args, "--json")
        assert (result.exit_code, result.stdout) == (1, "")


def test_json_is_ascii_safe_one_line_each(world: World) -> None:
    world.publish([weights("eu", "zürich", z1=10000)])
    result = ask("weights", "zürich", "--json")
    assert json.loads(result.stdout)["site"] == "zürich"
    assert result.stdout.count("\n") == 1
