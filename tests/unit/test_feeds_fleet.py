"""The inventory file: what it says, and every mistake in it with its line."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ConfigError, UsageError
from pipeline.feeds.fleetfile import FleetFileError, Item, Known, load, resolve
from pipeline.feeds.inventory import Current, changes, check_apart, known, site_regions
from pipeline.feeds.locate import json_lines, line_of, toml_lines
from pipeline.wire.address import parse_address, parse_prefix
from pipeline.wire.encode import encode

EXAMPLE = Path(__file__).parents[2] / "docs" / "fleet.example.toml"

WRONG = """\
[[region]]
id = "eu"
lat = 95.0
lon = 8.0

[[region]]
id = "eu"
lat = 50
lon = nan

[[site]]
id = "fra1"
region = "eu"
note = \"\"\"
[[site]]
id = "not a header"
\"\"\"
lat = 50
lon = 8
links = [{ id = "l1", capacity_bps = "much" }]
"""
DANGLING = """\
[[region]]
id = "eu"
lat = 50
lon = 8

[[region]]
id = "eu"
lat = 50
lon = 8

[[site]]
id = "fra1"
region = "us"
lat = 50
lon = 8
[[site.links]]
id = "l1"
capacity_bps = 1
[[site.links]]
id = "l1"
capacity_bps = 1

[[cluster]]
id = "k"
site = "fra1"

[[appliance]]
id = "c1"
site = "fra2"
cluster = "k"
capacity_bps = "40G"

[[appliance]]
id = "c2"
site = "fra1"
cluster = "none"
capacity_bps = "1.5 Tbps"

[[network]]
prefix = "8.8.8.0/24"
region = "us"
lat = 1
lon = 1
"""


def errors(path: Path) -> list[tuple[int, str]]:
    with pytest.raises(FleetFileError) as caught:
        file, lines = load(path)
        resolve(file, lines, str(path))
    assert all(line.startswith(f"{path}:") for line in str(caught.value).splitlines())
    return caught.value.errors


def test_the_example_is_a_fleet_in_both_formats(tmp_path: Path) -> None:
    items = resolve(*load(EXAMPLE), str(EXAMPLE))
    as_json = tmp_path / "fleet.json"
    as_json.write_text(json.dumps(tomllib.loads(EXAMPLE.read_text())))
    assert resolve(*load(as_json), str(as_json)) == items
    assert items[b"appliance:fra1-c1"] == Item(
        "Appliance",
        "eu-west",
        {
            "appliance": "fra1-c1",
            "site": "fra1",
            "cluster": "fra1-flash",
            "region": "eu-west",
            "capacity_bps": 100_000_000_000,
            "serves": ["VOD", "LIVE"],
            "addresses": [parse_address("198.51.100.11"), parse_address("2001:db8:f::11")],
        },
    )
    assert items[b"network:203.0.113.0/25"].fields["network"] == parse_prefix("203.0.113.0/25")
    for item in items.values():
        assert encode(item.name, item.fields)


def test_every_wrong_value_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(WRONG)
    found = errors(path)
    assert [line for line, _ in found] == [3, 9, 14, 20]
    told = [what.split(":")[0] for _, what in found]
    assert told[:3] == ["region eu, lat", "region eu, lon", "site fra1, note"]
    assert told[3] == "site fra1, links.0.capacity_bps"


def test_duplicates_and_references_to_nothing_are_all_told(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(DANGLING)
    assert errors(path) == [
        (6, "region eu stands here again, first in line 1"),
        (13, "site fra1 names region us, which there is not"),
        (19, "link l1 stands here again, first in line 16"),
        (29, "appliance c1 names site fra2, which there is not"),
        (30, "appliance c1 is at fra2, its cluster k at fra1"),
        (36, "appliance c2 names cluster none, which there is not"),
        (41, "network 8.8.8.0/24 names region us, which there is not"),
    ]


def test_json_mistakes_have_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(
        '{"region": [\n  {"id": "eu",\n   "lat": 50, "lon":\n  "east"}],\n "sites": []}'
    )
    assert [line for line, _ in errors(path)] == [4, 5]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("f.toml", "[[region]]\nid = \n", 2),
        ("f.json", '{\n"region": [}\n', 2),
        ("f.toml", "[[region]\n", 1),
    ],
)
def test_what_does_not_parse_has_a_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert caught.value.line == line
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nothing.toml")


def test_references_may_point_to_what_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "more.toml"
    path.write_text('[[appliance]]\nid = "c9"\nsite = "fra1"\ncapacity_bps = "40G"\n')
    there = Known(frozenset({"eu"}), {"fra1": "eu"})
    items = resolve(*load(path), str(path), there)
    assert items[b"appliance:c9"].region == "eu"


def test_lines_of_everything_in_a_json_text() -> None:
    text = json.dumps({"a": [1, {"b": 'x"\\', "c": None}], "d": {"e": [[], {}]}}, indent=1)
    lines = json_lines(text)
    numbered = text.splitlines()
    for path, line in lines.items():
        if path and isinstance(path[-1], str):
            assert f'"{path[-1]}":' in numbered[line - 1]
    assert line_of(lines, ("a", 1, "c", "deeper")) == lines["a", 1, "c"]
    assert line_of({}, ("a",)) == 1


def test_lines_of_nested_tables_in_a_toml_text() -> None:
    lines = toml_lines(
        '[[a]]\n[[a.b]]\n"k k" = 1\n[[a.b]]\nk = 1\n[[a]]\n[[a.b]]\nk = 1\n[t.u]\nv.w = 1'
    )
    assert lines["a", 0, "b", 0, "k k"] == 3
    assert lines["a", 0, "b", 1, "k"] == 5
    assert lines["a", 1, "b", 0, "k"] == 8
    assert lines["t", "u", "v"] == 10


def site(name: str, region: str, **fields: Any) -> Item:
    return Item("Site", region, {"site": name, "region": region, **fields})


def test_changes_add_what_is_new_and_remove_only_when_asked() -> None:
    current: Current = {("eu", b"site:a"): site("a", "eu"), ("eu", b"site:b"): site("b", "eu")}
    wanted = {b"site:a": site("a", "eu", lat=1.0), b"site:c": site("c", "eu")}
    assert [each.text() for each in changes(current, wanted)] == ["changed site:a", "added site:c"]
    pruned = [each.text() for each in changes(current, wanted, prune=True)]
    assert pruned == ["changed site:a", "added site:c", "removed site:b"]
    assert (
        list(changes({("eu", b"site:a"): wanted[b"site:a"]}, {b"site:a": wanted[b"site:a"]})) == []
    )


def test_what_moves_to_another_region_leaves_the_old_one() -> None:
    current: Current = {("eu", b"site:a"): site("a", "eu")}
    moved = list(changes(current, {b"site:a": site("a", "us")}))
    assert [(each.what, each.region, each.shown) for each in moved] == [
        ("changed", "us", True), ("removed", "eu", False)]  # fmt: skip


def test_removals_take_what_refers_before_what_is_referred_to() -> None:
    current: Current = {
        ("eu", b"region:eu"): Item("Region", "eu", {"region": "eu"}),
        ("eu", b"site:a"): site("a", "eu"),
        ("eu", b"appliance:c"): Item("Appliance", "eu", {"appliance": "c"}),
    }
    gone = [each.key for each in changes(current, {}, prune=True)]
    assert gone == [b"appliance:c", b"site:a", b"region:eu"]
    assert known(current) == Known(frozenset({"eu"}), {"a": "eu"}, {})


# -- sites that serve several regions -------------------------------------------------------------

SHARED = """
[[region]]
id = "eu"
lat = 50
lon = 8
[[region]]
id = "us"
lat = 40
lon = -80
[[site]]
id = "x"
region = "eu"
also = ["us"]
lat = 50
lon = 8
[[appliance]]
id = "x1"
site = "x"
capacity_bps = "40G"
"""


def shared(tmp_path: Path, text: str = SHARED) -> dict[bytes, Item]:
    path = tmp_path / "shared.toml"
    path.write_text(text)
    return resolve(*load(path), str(path))


def test_what_is_at_a_shared_site_stands_in_every_region_that_it_serves(tmp_path: Path) -> None:
    items = shared(tmp_path)
    todo = list(changes({}, items))
    assert [(one.key, one.region, one.shown) for one in todo if b":x" in one.key] == [
        (b"site:x", "eu", True), (b"site:x", "us", False),
        (b"appliance:x1", "eu", True), (b"appliance:x1", "us", False),
    ]  # fmt: skip
    (there,) = [one.item for one in todo if one.key == b"site:x" and one.region == "us"]
    assert there is not None
    assert (there.fields["region"], there.fields["regions"]) == ("us", ["eu", "us"])
    current: Current = {(one.region, one.key): one.item for one in todo if one.item is not None}
    assert list(changes(current, items)) == []
    assert known(current).sites == {"x": "eu"}
    assert site_regions(current) == {"x": ("eu", "us")}
    alone = shared(tmp_path, SHARED.replace('also = ["us"]\n', ""))
    left = [(one.what, one.key, one.region, one.shown) for one in changes(current, alone)]
    assert left == [
        ("changed", b"site:x", "eu", True),
        ("removed", b"appliance:x1", "us", False),
        ("removed", b"site:x", "us", False),
    ]
    gone = [one for one in changes(current, {}, prune=True) if one.key == b"site:x"]
    assert [one.shown for one in gone] == [True, False]


def test_an_appliance_that_is_added_later_stands_in_every_region_as_well(tmp_path: Path) -> None:
    there = Known(frozenset({"eu", "us"}), {"x": "eu"}, also={"x": ("us",)})
    path = tmp_path / "more.toml"
    path.write_text('[[appliance]]\nid = "x2"\nsite = "x"\ncapacity_bps = "40G"\n')
    assert resolve(*load(path), str(path), there)[b"appliance:x2"].regions == ("eu", "us")


def test_also_names_regions_that_there_are_and_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(FleetFileError, match="site x names region ap, which there is not"):
        shared(tmp_path, SHARED.replace('also = ["us"]', 'also = ["ap"]'))
    with pytest.raises(FleetFileError, match="site x is of eu anyway"):
        shared(tmp_path, SHARED.replace('also = ["us"]', 'also = ["eu"]'))


def test_regions_of_one_partition_cannot_share_a_site(tmp_path: Path) -> None:
    items = shared(tmp_path)
    with pytest.raises(UsageError, match=r"cannot serve all of its regions.*eu in 0, us in 0"):
        check_apart(items, 1)
    check_apart(items, 64)
