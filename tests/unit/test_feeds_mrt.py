"""The MRT reader, record type by record type, on files made by an encoder of our own."""

import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from pipeline.feeds.compressed import Source
from pipeline.wire.address import format_address, format_prefix
from tests import mrt_files as mrt
from tests.mrt_files import Read

V6_PEER = "2001:7f8:1::a500:3333:1"
GLOBAL, LINK_LOCAL = ip_address("2001:7f8:1::1").packed, ip_address("fe80::1").packed


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def run(*records: bytes, **options: Any) -> Read:
        path = tmp_path / "file.mrt"
        path.write_bytes(b"".join(records))
        found = Read(Source(path), **options)
        assert found.account.unaccounted == 0
        return found

    return run


def prefixes(found: Read) -> list[str]:
    return [format_prefix(route["prefix"]) for route in found.routes]


def refused(found: Read) -> dict[str, int]:
    return {str(name): count for name, count in found.account.refused.items()}


def test_an_update_becomes_the_routes_it_announces_and_withdraws(read: Any) -> None:
    block = mrt.attributes(
        mrt.attribute(4, struct.pack(">I", 50), 0x80),
        mrt.attribute(5, struct.pack(">I", 100)),
        mrt.attribute(8, struct.pack(">II", 0xFFFFFF01, 3356 << 16 | 3), 0xC0),
    )
    found = read(
        mrt.bgp4mp(mrt.update(mrt.nlri("9.9.9.0/24"), block, mrt.nlri("8.8.8.0/24", "8.0.0.0/9")))
    )
    assert (found.account.announced, found.account.withdrawn, found.account.damaged) == (2, 1, 0)
    assert [key for key, _, _ in found.rows] == [
        f"fra1|{mrt.PEER}|9.9.9.0/24|0",
        f"fra1|{mrt.PEER}|8.8.8.0/24|0",
        f"fra1|{mrt.PEER}|8.0.0.0/9|0",
    ]
    withdrawn, announced, _ = found.routes
    assert (withdrawn["action"], withdrawn["as_path"], withdrawn["as_path_len"]) == (
        "WITHDRAW",
        "",
        0,
    )
    assert announced == {
        "site": "fra1",
        "peer": mrt.PEER,
        "peer_asn": 65001,
        "prefix": announced["prefix"],
        "path_id": 0,
        "action": "ANNOUNCE",
        "as_path": "3356 1299",
        "as_path_len": 2,
        "med": 50,
        "local_pref": 100,
        "communities": [0xFFFFFF01, 3356 << 16 | 3],
        "next_hop": announced["next_hop"],
        "at_ms": mrt.AT_MS,
    }
    assert format_address(announced["next_hop"]) == "80.249.208.99"


@pytest.mark.parametrize(
    ("subtype", "size", "local", "add_path"),
    [(1, 2, False, False), (4, 4, False, False), (6, 2, True, False), (7, 4, True, False),
     (8, 2, False, True), (9, 4, False, True), (10, 2, True, True), (11, 4, True, True)],
)  # fmt: skip
def test_every_message_subtype(
    read: Any, subtype: int, size: int, local: bool, add_path: bool
) -> None:
    announced = mrt.nlri("8.8.8.0/24", path_id=77 if add_path else None)
    inner = mrt.update(b"", mrt.attributes(size=size), announced)
    found = read(mrt.bgp4mp(inner, subtype, size))
    (route,) = found.routes
    assert route["path_id"] == (77 if add_path else 0)
    assert route["as_path"] == "3356 1299"
    # what the collector sent itself was announced by its own side of the session
    assert (route["peer"], route["peer_asn"]) == (
        (mrt.LOCAL, 12654) if local else (mrt.PEER, 65001)
    )


def test_ipv6_comes_in_mp_attributes_with_the_global_next_hop(read: Any) -> None:
    for hop in (GLOBAL, GLOBAL + LINK_LOCAL, LINK_LOCAL + GLOBAL):
        block = (
            mrt.ORIGIN + mrt.path(3333) + mrt.mp_reach(mrt.nlri("2a00::/12", "2a02:ec0::/33"), hop)
        )
        inner = mrt.update(b"", block + mrt.mp_unreach(mrt.nlri("2c0f::/16")))
        found = read(mrt.bgp4mp(inner, peer=V6_PEER, local="2001:7f8:1::1"))
        assert prefixes(found) == ["2c0f::/16", "2a00::/12", "2a02:ec0::/33"]
        assert [format_address(route["next_hop"]) for route in found.routes[1:]] == [
            "2001:7f8:1::1"
        ] * 2


def test_ipv4_over_ipv6_and_both_families_in_one_message(read: Any) -> None:
    block = mrt.attributes(mrt.mp_reach(mrt.nlri("8.8.8.0/24"), GLOBAL, afi=1))
    found = read(mrt.bgp4mp(mrt.update(b"", block, mrt.nlri("9.9.9.0/24"))))
    assert prefixes(found) == ["8.8.8.0/24", "9.9.9.0/24"]
    assert format_address(found.routes[0]["next_hop"]) == "2001:7f8:1::1"


def test_other_families_are_skipped_by_name_and_are_no_elements(read: Any) -> None:
    reach = mrt.mp_reach(b"\x70" + bytes(14), bytes(12), afi=1, safi=128)
    unreach = mrt.mp_unreach(b"\x18\x08\x08\x08", 1, 2)
    inner = mrt.update(b"", mrt.ORIGIN + mrt.path(1) + reach), mrt.update(b"", unreach)
    found = read(*map(mrt.bgp4mp, inner))
    assert found.account.read == 0
    assert dict(found.account.skipped) == {"afi 1 safi 128": 1, "afi 1 safi 2": 1}
    assert found.rows == []


def test_extended_timestamps_keep_their_milliseconds(read: Any) -> None:
    inner = mrt.session() + mrt.update(b"", mrt.attributes(), mrt.nlri("8.8.8.0/24"))
    found = read(mrt.record(mrt.BGP4MP_ET, 4, struct.pack(">I", 123_456) + inner))
    assert found.routes[0]["at_ms"] == mrt.AT_MS + 123
    assert found.times == [mrt.AT_MS + 123]
    assert read(mrt.record(mrt.BGP4MP_ET, 4, b"\x00\x01")).account.damaged == 1


def test_sessions_up_and_down_and_ends_of_rib(read: Any) -> None:
    found = read(
        mrt.state_change(5, 6),
        mrt.bgp4mp(mrt.update()),
        mrt.bgp4mp(mrt.update(b"", mrt.mp_unreach(b""))),
        mrt.state_change(6, 1, subtype=0, size=2),
        mrt.state_change(3, 2),
    )
    names = [(key, name) for key, name, _ in found.rows]
    session, rib = f"fra1|{mrt.PEER}|session", f"fra1|{mrt.PEER}|eor"
    assert names == [
        (session, "PeerUp"),
        (rib, "EndOfRib"),
        (rib, "EndOfRib"),
        (session, "PeerDown"),
    ]
    assert found.rows[3][2]["cause"] == "state 6 to 1"
    assert found.account.read == 0
    assert found.account.skipped == {"STATE_CHANGE of a session that is not up": 1}


def test_keepalives_and_their_like_are_skipped_by_name(read: Any) -> None:
    found = read(*(mrt.bgp4mp(mrt.message(b"", kind)) for kind in (1, 3, 4, 5, 9)))
    assert sorted(found.account.skipped) == [
        "BGP message 9", "KEEPALIVE", "NOTIFICATION", "OPEN", "ROUTE_REFRESH"]  # fmt: skip


def test_a_rib_dump_names_its_peers_by_index(read: Any) -> None:
    short = mrt.attribute(14, bytes([16]) + GLOBAL, 0x80)  # abbreviated, RFC 6396 4.3.4
    full = mrt.mp_reach(mrt.nlri("2a00::/12"), GLOBAL + LINK_LOCAL)
    six = mrt.ORIGIN + mrt.path(3333)
    found = read(
        mrt.peer_index((mrt.PEER, 65001), (V6_PEER, 400_000)),
        mrt.rib("8.8.8.0/24", (0, mrt.attributes()), (1, mrt.attributes())),
        mrt.rib("2a00::/12", (1, six + short), (0, six + full), subtype=4),
    )
    assert [(route["peer"], route["peer_asn"]) for route in found.routes] == [
        (mrt.PEER, 65001), (V6_PEER, 400_000), (V6_PEER, 400_000), (mrt.PEER, 65001)]  # fmt: skip
    assert {format_address(route["next_hop"]) for route in found.routes[2:]} == {"2001:7f8:1::1"}
    assert found.account.announced == 4


def test_rib_entries_with_path_identifiers_and_generic_ones(read: Any) -> None:
    generic = struct.pack(">IHB", 1, 2, 1) + mrt.nlri("2a00::/12") + struct.pack(">HHI", 1, 0, 0)
    block = mrt.ORIGIN + mrt.path(1)
    generic += struct.pack(">H", len(block)) + block
    other = struct.pack(">IHB", 1, 1, 128) + b"\x00" + struct.pack(">H", 0)
    found = read(
        mrt.peer_index((mrt.PEER, 1)),
        mrt.rib(
            "8.8.8.0/24", (0, mrt.attributes()), (0, mrt.attributes()), subtype=8, path_ids=(3, 4)
        ),
        mrt.record(mrt.TABLE_DUMP_V2, 6, generic),
        mrt.record(mrt.TABLE_DUMP_V2, 6, other),
        mrt.record(mrt.TABLE_DUMP_V2, 3, b""),
        mrt.record(mrt.TABLE_DUMP_V2, 99, b""),
    )
    assert [route["path_id"] for route in found.routes] == [3, 4, 0]
    assert [key.rpartition("|")[2] for key, _, _ in found.rows] == ["3", "4", "0"]
    assert dict(found.account.skipped) == {
        "RIB_GENERIC afi 1 safi 128": 1, "TABLE_DUMP_V2 RIB_IPV4_MULTICAST": 1,
        "TABLE_DUMP_V2 subtype 99": 1}  # fmt: skip


def test_a_rib_entry_without_attributes_is_refused_and_the_next_one_read(read: Any) -> None:
    found = read(
        mrt.peer_index((mrt.PEER, 1)), mrt.rib("8.8.8.0/24", (0, b""), (0, mrt.attributes()))
    )
    assert refused(found) == {"bad_attributes": 1}
    assert (found.account.read, found.account.announced, found.account.damaged) == (2, 1, 0)


def test_rib_records_that_do_not_add_up_are_damaged(read: Any) -> None:
    entry = (0, mrt.attributes())
    found = read(
        mrt.rib("8.8.8.0/24", entry),  # no index yet
        mrt.peer_index((mrt.PEER, 1)),
        mrt.rib("8.8.8.0/24", entry, (9, mrt.attributes())),  # no such peer
        mrt.record(mrt.TABLE_DUMP_V2, 2, mrt.rib("8.8.8.0/24", entry)[12:-3]),
        mrt.record(mrt.TABLE_DUMP_V2, 1, b"\x00\x00\x00\x00\x00\x00\x00\x05\x01"),
        mrt.rib("8.8.9.0/24", entry),
    )
    assert (found.account.damaged, found.account.announced) == (4, 2)


def test_table_dumps_of_old(read: Any) -> None:
    two = mrt.attributes(size=2)
    six = mrt.ORIGIN + mrt.path(3333, size=2) + mrt.mp_reach(mrt.nlri("2a00::/12"), GLOBAL)
    found = read(mrt.table_dump("8.8.8.0/24", two), mrt.table_dump("2a00::/12", six, peer=V6_PEER))
    assert prefixes(found) == ["8.8.8.0/24", "2a00::/12"]
    assert [route["as_path"] for route in found.routes] == ["3356 1299", "3333"]
    bad = read(mrt.table_dump("8.8.8.1/24", two), mrt.table_dump("8.8.8.0/33", two))
    assert refused(bad) == {"host_bits": 1, "bad_prefix_length": 1}


def test_the_record_type_of_1999(read: Any) -> None:
    head = struct.pack(">H4sH4s", 65001, ip_address(mrt.PEER).packed, 12654, bytes(4))
    inner = mrt.update(b"", mrt.attributes(size=2), mrt.nlri("8.8.8.0/24"))[19:]
    change = head[:6] + struct.pack(">HH", 6, 1)
    found = read(mrt.record(5, 1, head + inner), mrt.record(5, 3, change), mrt.record(5, 7, b""))
    assert [name for _, name, _ in found.rows] == ["Route", "PeerDown"]
    assert found.account.skipped == {"BGP KEEPALIVE": 1}


def test_defaults_bogons_and_private_space_are_refused_by_name(read: Any) -> None:
    announced = mrt.nlri("0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24", "8.8.8.0/24")
    records = mrt.bgp4mp(mrt.update(mrt.nlri("192.168.0.0/16"), mrt.attributes(), announced))
    found = read(records)
    assert refused(found) == {"default_route": 1, "bogon": 3}
    assert (found.account.read, found.account.announced, found.account.withdrawn) == (5, 1, 0)
    allowed = read(records, allow_documentation=True)
    assert prefixes(allowed) == ["192.0.2.0/24", "8.8.8.0/24"]


def test_ipv4_mapped_prefixes_of_ipv6_do_not_pass_for_ipv4(read: Any) -> None:
    block = mrt.ORIGIN + mrt.path(1) + mrt.mp_reach(mrt.nlri("::ffff:8.8.8.0/120"), GLOBAL)
    assert refused(read(mrt.bgp4mp(mrt.update(b"", block)))) == {"bogon": 1}


def test_trailing_bits_are_irrelevant_and_counted(read: Any) -> None:
    found = read(mrt.bgp4mp(mrt.update(b"", mrt.attributes(), b"\x14\x08\x08\xff")))
    assert prefixes(found) == ["8.8.240.0/20"]
    assert found.account.noted["trailing_bits"] == 1


def test_a_path_of_a_thousand_hops_is_refused_and_withdraws_what_was_there(read: Any) -> None:
    long = mrt.attribute(2, b"".join(mrt.segment(2, range(1, 251)) for _ in range(4)))
    found = read(
        mrt.bgp4mp(mrt.update(b"", mrt.ORIGIN + long + mrt.NEXT_HOP, mrt.nlri("8.8.8.0/24")))
    )
    assert refused(found) == {"as_path_too_long": 1}
    assert [route["action"] for route in found.routes] == ["WITHDRAW"]
    assert (found.account.announced, found.account.withdrawn, found.account.sent) == (0, 0, 1)


def test_elements_of_peers_without_a_site_are_refused(read: Any) -> None:
    found = read(
        mrt.bgp4mp(mrt.update(mrt.nlri("8.8.4.0/24"), mrt.attributes(), mrt.nlri("8.8.8.0/24"))),
        mrt.state_change(6, 1),
        site="",
    )
    assert refused(found) == {"unmapped_peer": 2}
    assert found.account.skipped == {"PeerDown of an unmapped peer": 1}
    assert found.rows == []


def test_impossible_lengths_and_cut_fields_keep_what_came_before(read: Any) -> None:
    block = mrt.attributes()
    found = read(
        mrt.bgp4mp(mrt.update(b"", block, mrt.nlri("8.8.8.0/24") + b"\x21\x01\x02\x03\x04\x05"))
    )
    assert prefixes(found) == ["8.8.8.0/24"]
    assert (refused(found), found.account.damaged) == ({"bad_prefix_length": 1}, 1)
    found = read(mrt.bgp4mp(mrt.update(b"", block, mrt.nlri("8.8.8.0/24") + b"\x18\x08")))
    assert (prefixes(found), found.account.read, found.account.damaged) == (["8.8.8.0/24"], 1, 1)


def test_path_identifiers_where_the_record_does_not_say_so_are_recognised(read: Any) -> None:
    announced = mrt.nlri("8.8.8.0/24", path_id=1) + mrt.nlri("8.8.4.0/24", path_id=2)
    found = read(mrt.bgp4mp(mrt.update(b"", mrt.attributes(), announced)))
    assert (prefixes(found), refused(found)) == (["8.8.8.0/24", "8.8.4.0/24"], {})
    assert [route["path_id"] for route in found.routes] == [1, 2]


def test_damaged_records_never_stop_the_reading(read: Any) -> None:
    good = mrt.bgp4mp(mrt.update(b"", mrt.attributes(), mrt.nlri("8.8.8.0/24")))
    inner = mrt.update(b"", mrt.attributes(), mrt.nlri("8.8.8.0/24"))
    found = read(
        good,
        mrt.bgp4mp(b"\x00" + inner[1:]),  # no marker
        mrt.bgp4mp(inner[:25]),  # cut off
        mrt.record(mrt.BGP4MP, 4, b"\x00" * 5),
        mrt.record(mrt.BGP4MP, 4, struct.pack(">IIHH", 1, 2, 0, 9) + bytes(40)),  # no such family
        mrt.record(mrt.TABLE_DUMP, 1, b"\x00" * 9),
        mrt.record(mrt.BGP4MP, 42, b""),
        mrt.record(32, 0, b"isis"),
        mrt.record(77, 1, b"what is this"),
        good,
    )
    assert (found.account.announced, found.account.damaged, found.account.records) == (2, 5, 10)
    assert dict(found.account.skipped) == {"BGP4MP subtype 42": 1, "ISIS": 1, "type 77": 1}
    assert found.ending.whole


def test_lost_framing_ends_the_file_and_says_where(read: Any) -> None:
    good = mrt.bgp4mp(mrt.update(b"", mrt.attributes(), mrt.nlri("8.8.8.0/24")))
    cut = read(good, good[:-1])
    assert (cut.account.announced, cut.account.damaged) == (1, 1)
    assert (cut.ending.whole, cut.ending.why) == (
        False,
        f"ends inside a record, at byte {len(good)}",
    )
    lost = read(good, struct.pack(">IHHI", 1, 16, 4, 1 << 30), good)
    assert lost.ending.why == f"no record of MRT at byte {len(good)}"
    assert not read(b"This is a text and certainly no routing table.").ending.is_mrt
