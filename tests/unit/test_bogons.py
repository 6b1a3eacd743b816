"""Bogon and default-route screening, held against the standard library's view of the registries."""

import ipaddress

import pytest

from pipeline.wire import bogons


def prefix17(text: str) -> bytes:
    network = ipaddress.ip_network(text)
    if network.version == 4:
        return (
            bytes(10)
            + b"\xff\xff"
            + network.network_address.packed
            + bytes([network.prefixlen + 96])
        )
    return network.network_address.packed + bytes([network.prefixlen])


@pytest.mark.parametrize("block", [*bogons.IPV4, *bogons.IPV6])
def test_every_listed_block_and_what_lies_inside_is_a_bogon_and_what_covers_it_is_not(
    block: str,
) -> None:
    network = ipaddress.ip_network(block)
    assert bogons.is_bogon_prefix(prefix17(block))
    last = network.broadcast_address
    assert bogons.is_bogon_prefix(prefix17(f"{last}/{network.max_prefixlen}"))
    assert bogons.is_bogon_prefix(prefix17(block), allow_documentation=True) == (
        block not in bogons.DOCUMENTATION
    )


def test_a_prefix_that_covers_a_bogon_is_none() -> None:
    for text in ("192.0.0.0/8", "198.0.0.0/8", "2001::/16", "100.0.0.0/8", "203.0.0.0/16"):
        assert not bogons.is_bogon_prefix(prefix17(text)), text


def test_neighbours_of_the_blocks_are_routable() -> None:
    for text in ("1.0.0.0/24", "9.255.255.0/24", "11.0.0.0/24", "100.128.0.0/24", "192.0.1.0/24",
                 "192.88.99.0/24", "223.255.255.0/24", "198.17.255.0/24", "198.20.0.0/24",
                 "2001:db7::/32", "2001:db9::/32", "2002::/16", "2001::/32", "2a00::/12",
                 "3ffd::/16", "2000::/3"):  # fmt: skip
        assert not bogons.is_bogon_prefix(prefix17(text)), text


def test_ipv6_outside_global_unicast_is_a_bogon_whatever_its_length() -> None:
    for text in ("::/1", "::/8", "4000::/2", "fc00::/7", "fe80::/10", "ff00::/8", "2000::/2",
                 "::1/128", "64:ff9b::/96", "::ffff:0:0/95"):  # fmt: skip
        packed = ipaddress.ip_network(text, strict=False)
        assert bogons.is_bogon_prefix(packed.network_address.packed + bytes([packed.prefixlen])), (
            text
        )


def test_default_routes_of_both_families() -> None:
    assert bogons.is_default_prefix(prefix17("0.0.0.0/0"))
    assert bogons.is_default_prefix(prefix17("::/0"))
    assert not bogons.is_default_prefix(prefix17("0.0.0.0/1"))
    assert not bogons.is_default_prefix(prefix17("::/1"))


def test_what_the_standard_library_calls_not_global_is_a_bogon() -> None:
    for text in ("10.1.0.0/16", "172.31.0.0/24", "192.168.4.0/22", "198.19.0.0/16", "127.0.0.0/24",
                 "169.254.9.0/24", "240.1.0.0/16", "100.127.0.0/16",
                 "2001:db8:1::/48", "fd00::/8"):  # fmt: skip
        assert not ipaddress.ip_network(text).is_global
        assert bogons.is_bogon_prefix(prefix17(text)), text
