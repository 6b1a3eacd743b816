"""What an operator takes out of service, in the inventory on the broker: found by name, put there,
listed. What becomes of it is pipeline/state/drains.py."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from pipeline.errors import UsageError
from pipeline.feeds.fleetfile import Item
from pipeline.feeds.inventory import CHANGED, Change, Current, known, site_regions
from pipeline.feeds.keys import inventory_key
from pipeline.state.drains import REGION, SITE, drain_id

DRAIN, UNDRAIN = "DRAIN", "UNDRAIN"
KIND = "drain"
NEAR = 3


class Target(NamedTuple):
    """A site or region by name, the region whose partition it is in, and more that an order goes
    to: those that the site serves too, or that the region's sites do."""

    scope: str
    entity: str
    region: str
    also: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """Its drain's key on fleet.inventory."""
        return inventory_key(KIND, drain_id(self.scope, self.entity))


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest Drain of a target."""

    target: Target
    action: str
    at_ms: int
    deadline_ms: int

    def over(self, now_ms: int) -> bool:
        """Whether its deadline has passed."""
        return self.deadline_ms <= now_ms

    def words(self, now_ms: int) -> str:
        """What is being done."""
        if self.action == DRAIN:
            return "out of service" if self.over(now_ms) else "draining"
        return "in service" if self.over(now_ms) else "returning"


def find_target(current: Current, name: str) -> Target:
    """The site or region of this name; `site:NAME` or `region:NAME` where both are called so.
    UsageError when there is none."""
    regions = site_regions(current)
    there = [Target(SITE, site, names[0], names[1:]) for site, names in sorted(regions.items())]
    for region in sorted(known(current).regions):
        more = [names[1:] for names in regions.values() if names[0] == region]
        also = tuple(sorted({one for names in more for one in names}))
        there.append(Target(REGION, region, region, also))
    found = [one for one in there if name in (one.entity, drain_id(one.scope, one.entity))]
    if len({one.scope for one in found}) > 1:
        raise UsageError(f"{name} is a site and a region: say {SITE}:{name} or {REGION}:{name}")
    if found:
        return found[0]
    names = sorted(one.entity for one in there)
    close = get_close_matches(name, names, n=NEAR)
    hint = f"did you mean {' or '.join(close)}?" if close else "`edgesteer fleet show` lists them"
    raise UsageError(f"the inventory has no site and no region {name!r}; {hint}")


def standing(current: Current) -> Iterator[Standing]:
    """Every Drain there is, by name; of one that went to several regions the one at home."""
    homes = known(current).sites
    for region, key in sorted(current, key=lambda place: place[::-1]):
        item = current[region, key]
        if item.name != "Drain":
            continue
        fields, entity = item.fields, item.fields["entity"]
        scope = fields["scope"].lower()
        if region == (homes.get(entity, region) if scope == SITE else entity):
            target = Target(scope, entity, region)
            yield Standing(target, fields["action"], fields["at_ms"], fields["deadline_ms"])


def ordered(target: Target, action: str, at_ms: int, deadline_ms: int) -> list[Change]:
    """What to publish so that it is drained, or comes back, in all regions that it concerns."""
    fields = {
        "scope": target.scope.upper(),
        "entity": target.entity,
        "region": target.region,
        "action": action,
        "at_ms": at_ms,
        "deadline_ms": deadline_ms,
    }
    item = Item("Drain", target.region, fields)
    return [
        Change(CHANGED, target.key, region, item.of(region))
        for region in (target.region, *target.also)
    ]
