"""Questions to a steering table: where is this address served, and by which appliance a session.

`who` finds the longest prefix that covers the address. Several regions may hold one (a network
that two regions hear of). Then the longer prefix wins; among equals the region whose first site for
it is nearer: shorter AS path, then lower MED, RTT and distance (a figure that a region did not need
comes after any that was), then the region's name.

A group does not say which announcement put a site where it is: a site of tier t announced not the
prefix itself but one around it. That is found again in the table: the nearest covering prefix in
whose own group the site has tier 0.

`pick` places a session by weighted rendezvous hashing, first among sites by share, then among the
site's appliances by weight: score = -ln(u) / weight with u in (0, 1) from a stable hash of session
and name; the lowest wins (Mosharaf's and Schindelhauer's "weighted rendezvous"). Each session keeps
its place unless its own candidate's part changes: a weight that falls by a tenth moves a tenth of
that candidate's sessions and nobody else's. Rejected: a ring with points in proportion to weight
(uneven unless it has thousands of points a site), and cumulative ranges (a change at the front
moves everybody behind it).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import NamedTuple, TypeVar

from xxhash import xxh3_64_intdigest

from pipeline.follow.standing import site_price
from pipeline.follow.table import CellTable, SteeringTable
from pipeline.reasons import Reason
from pipeline.wire.decode import decode
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES

#: Traffic classes, in the order of a site's shares.
CLASSES = ("VOD", "LIVE", "GAME")
_ADDRESS_BITS = 128


class Proximity(NamedTuple):
    """Why a site ranks where it does. `announced`: the 17 bytes of the prefix it announced, None
    where the table does not tell; None figures were not needed to decide."""

    announced: bytes | None
    tier: int
    as_path_len: int
    med: int | None
    rtt_ms: int | None
    distance_km: int | None


class ApplianceWeight(NamedTuple):
    """One appliance of a site; `weight` in ten-thousandths of the site's load."""

    appliance: str
    weight: int
    state: str
    reason: str


class SiteShare(NamedTuple):
    """One site that serves; `share` in ten-thousandths of the group's demand, `rank` from 1;
    `price` of its capacity (standing.py), None where the table does not tell."""

    site: str
    rank: int
    share: int
    reason: str
    key: Proximity
    price: int | None
    appliances: tuple[ApplianceWeight, ...]


class PassedOver(NamedTuple):
    """One site that does not serve, and why; `rank` 0 and no key where it is not ranked; `price` as
    of a SiteShare."""

    site: str
    rank: int
    reason: str
    key: Proximity | None
    price: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where one class of traffic of an address is served, as of `cut` of `partition`."""

    address: bytes
    traffic_class: str
    region: str
    prefix: bytes
    group: bytes
    partition: int
    cut: int
    sites: tuple[SiteShare, ...]
    passed_over: tuple[PassedOver, ...]


class Placed(NamedTuple):
    """A session's place."""

    site: str
    appliance: str


class Choice(NamedTuple):
    """One site of a group entry, as published."""

    site: str
    tier: int
    as_path_len: int
    med: int | None
    rtt_ms: int | None
    distance_km: int | None
    shares: tuple[int, ...]


class Group(NamedTuple):
    """A group entry, as published. `passed_over`: (site, class, reason)."""

    sites: tuple[Choice, ...]
    passed_over: tuple[tuple[str, str, str], ...]


class _Cover(NamedTuple):
    """One prefix that covers the address asked for."""

    length: int
    region: str
    prefix: bytes
    group_id: bytes
    group: Group
    cell: CellTable


@lru_cache(maxsize=65_536)
def group_id_of(value: bytes) -> bytes:
    """The group of a steering.prefixes record. Raises WireError."""
    _, entry = decode(value)
    return bytes(entry["group"])


@lru_cache(maxsize=16_384)
def group_of(value: bytes) -> Group:
    """A steering.groups record. Raises WireError."""
    _, entry = decode(value)
    sites = (Choice(**{**site, "shares": tuple(site["shares"])}) for site in entry["sites"])
    passed = ((one["site"], one["traffic_class"], one["reason"]) for one in entry["passed_over"])
    return Group(tuple(sites), tuple(passed))


@lru_cache(maxsize=4_096)
def appliance_weights(value: bytes) -> tuple[ApplianceWeight, ...]:
    """The appliances of a lb.weights record. Raises WireError."""
    _, entry = decode(value)
    return tuple(ApplianceWeight(**each) for each in entry["appliances"])


def site_weights(table: SteeringTable, site: str, near: int = -1) -> tuple[ApplianceWeight, ...]:
    """The appliances of a site by name, from the cell `near` if it has it; empty when unknown."""
    key = site.encode()
    for partition in sorted(table.cells, key=lambda each: (each != near, each)):
        value = table.cells[partition].records[LB_WEIGHTS.name].get(key)
        if value is not None:
            return appliance_weights(value)
    return ()


def _covers(table: SteeringTable, address: bytes, region: str | None) -> Iterator[_Cover]:
    """Every covering prefix that has its group in the table, in no order."""
    number = int.from_bytes(address, "big")
    for cell in table.cells.values():
        prefixes = cell.records[STEERING_PREFIXES.name]
        for shape in cell.shapes:
            length, name = int.from_bytes(shape[:1], "big"), shape[1:]
            if length > _ADDRESS_BITS or not name or (region or "").encode() not in (b"", name):
                continue
            host = _ADDRESS_BITS - length
            prefix = (number >> host << host).to_bytes(16, "big") + shape[:1]
            value = prefixes.get(prefix + name)
            if value is None:
                continue
            group_id = group_id_of(value)
            group = cell.records[STEERING_GROUPS.name].get(group_id + name)
            if group is not None:
                yield _Cover(
                    length, name.decode(errors="replace"), prefix, group_id, group_of(group), cell
                )


def _last_none(figure: int | None) -> tuple[bool, int]:
    return (figure is None, figure or 0)


def _preference(cover: _Cover) -> tuple[object, ...]:
    """Sorts the best cover first."""
    nearest: tuple[object, ...] = (True,)
    if cover.group.sites:
        first = cover.group.sites[0]
        figures = (first.med, first.rtt_ms, first.distance_km)
        nearest = (False, first.as_path_len, *map(_last_none, figures))
    return (-cover.length, nearest, cover.region)


def _proximity(choice: Choice, covers: Sequence[_Cover]) -> Proximity:
    """`covers`: of one region, longest first."""
    announced = None
    for cover in covers:
        if any(other.site == choice.site and other.tier == 0 for other in cover.group.sites):
            announced = cover.prefix
            break
    return Proximity(announced, *choice[1:6])


def _served_because(rank: int, given: str | None) -> str:
    return given or (Reason.NEAREST if rank == 1 else Reason.SPILL_OVER)


def who(
    table: SteeringTable, address: bytes, traffic_class: str = "VOD", region: str | None = None
) -> Answer | None:
    """Where `address` (16 bytes) is served for a class of CLASSES; None when no prefix covers it.
    Raises WireError for a published record that cannot be read."""
    index = CLASSES.index(traffic_class)
    covers = sorted(_covers(table, address, region), key=_preference)
    if not covers:
        return None
    best = covers[0]
    around = [each for each in covers if each.region == best.region]
    given = {site: why for site, name, why in best.group.passed_over if name == traffic_class}
    sites, passed = [], []
    for rank, choice in enumerate(best.group.sites, 1):
        share, why = choice.shares[index], given.pop(choice.site, None)
        key = _proximity(choice, around)
        price = site_price(table, choice.site, best.cell.partition, index)
        if share:
            appliances = site_weights(table, choice.site, best.cell.partition)
            because = _served_because(rank, why)
            sites.append(SiteShare(choice.site, rank, share, because, key, price, appliances))
        else:
            passed.append(PassedOver(choice.site, rank, why or Reason.BEYOND_RANK, key, price))
    passed += [PassedOver(site, 0, why, None, None) for site, why in given.items()]
    return Answer(
        address,
        traffic_class,
        best.region,
        best.prefix,
        best.group_id,
        best.cell.partition,
        best.cell.cut,
        tuple(sites),
        tuple(passed),
    )


T = TypeVar("T")


def rendezvous(session: int, candidates: Iterable[tuple[str, int, T]]) -> T | None:
    """The candidate (name, weight, what) that holds `session` (modulo 2**64); None without one
    whose weight is above 0. Names must differ. (The last bit of a logarithm may differ between
    machines; two scores that close are met once in some 10**15 sessions.)"""
    scored = (
        (-log(((xxh3_64_intdigest(name.encode(), session) >> 11) + 0.5) / 2**53) / weight, name, it)
        for name, weight, it in candidates
        if weight > 0
    )
    best = min(scored, key=lambda each: each[:2], default=None)
    return None if best is None else best[2]


def place(answer: Answer, session: int) -> Placed | None:
    """The site and appliance of a session; None when nothing can serve it."""
    able = [
        (f"site:{each.site}", each.share, each)
        for each in answer.sites
        if any(one.weight for one in each.appliances)
    ]
    site = rendezvous(session, able)
    if site is None:
        return None
    appliance = rendezvous(
        session,
        ((f"appliance:{one.appliance}", one.weight, one.appliance) for one in site.appliances),
    )
    return None if appliance is None else Placed(site.site, appliance)


def pick(
    table: SteeringTable,
    address: bytes,
    traffic_class: str,
    session: int,
    region: str | None = None,
) -> Placed | None:
    """Where a session of a client is served: `who`, then `place`."""
    answer = who(table, address, traffic_class, region)
    return None if answer is None else place(answer, session)
