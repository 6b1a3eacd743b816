"""How a site stands, read from a steering table: its projected load, and what its capacity costs.

A client is served where proximity cost + price is least. Costs rise by 1,000,000 for each less
specific announcement, by 1,000 for each AS hop and by 1 for each rank, so a price reads as how much
farther away the next client is sent (docs/adr/0023)."""

from functools import lru_cache
from typing import NamedTuple

from pipeline.follow.table import SteeringTable
from pipeline.wire.decode import decode
from schemas.registry import STEERING_SITES


class SiteStanding(NamedTuple):
    """A steering.sites record, as published; load_bps and price by class (lookup.CLASSES)."""

    region: str
    site: str
    state: str
    target_bps: int
    load_bps: tuple[int, ...]
    overflow_bps: int
    price: tuple[int, ...]


@lru_cache(maxsize=4_096)
def standing_of(value: bytes) -> SiteStanding:
    """A steering.sites record. Raises WireError."""
    _, entry = decode(value)
    lists = {"load_bps": tuple(entry["load_bps"]), "price": tuple(entry["price"])}
    return SiteStanding(**{**entry, **lists})


def site_price(table: SteeringTable, site: str, partition: int, klass: int) -> int | None:
    """What a site's capacity costs a class in the cell `partition`; None where it does not say."""
    value = table.cells[partition].records[STEERING_SITES.name].get(site.encode())
    return None if value is None else standing_of(value).price[klass]
