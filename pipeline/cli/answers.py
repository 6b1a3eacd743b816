"""What the asking commands have in common: the steering table's parts as JSON values, and a word
of warning where it is not one cut's.

Shares and weights are integers in ten-thousandths, as published.
"""

from typing import Any

from pipeline.cli.common import note
from pipeline.follow.lookup import Answer, ApplianceWeight, Proximity
from pipeline.follow.table import SteeringTable
from pipeline.wire.address import format_address, format_prefix


def answer_json(answer: Answer, *, why: bool) -> dict[str, Any]:
    """`edgesteer who`. Fixed by docs/scripts.md: prefix, group, sites (site, share, appliances
    with weight), passed_over (site, reason); `why` adds each site's proximity key
    and the price of its capacity."""
    sites = [
        {
            "site": each.site,
            "rank": each.rank,
            "share": each.share,
            "reason": each.reason,
            "appliances": [one._asdict() for one in each.appliances],
            **({"key": key_json(each.key), "price": each.price} if why else {}),
        }
        for each in answer.sites
    ]
    passed = [
        {
            "site": each.site,
            "rank": each.rank,
            "reason": each.reason,
            **({"key": key_json(each.key), "price": each.price} if why else {}),
        }
        for each in answer.passed_over
    ]
    return {
        "address": format_address(answer.address),
        "class": answer.traffic_class.lower(),
        "region": answer.region,
        "prefix": format_prefix(answer.prefix),
        "group": answer.group.hex(),
        "partition": answer.partition,
        "cut": answer.cut,
        "sites": sites,
        "passed_over": passed,
    }


def key_json(key: Proximity | None) -> dict[str, Any] | None:
    """A proximity key; null for what was not needed or is not known."""
    if key is None:
        return None
    announced = None if key.announced is None else format_prefix(key.announced)
    return {**key._asdict(), "announced": announced}


def weights_json(
    site: str, region: str, partition: int, cut: int, parts: tuple[ApplianceWeight, ...]
) -> dict[str, Any]:
    """`edgesteer weights`. Fixed by docs/scripts.md: site, cut, weights (appliance -> weight)."""
    return {
        "site": site,
        "region": region,
        "partition": partition,
        "cut": cut,
        "weights": {each.appliance: each.weight for each in parts},
        "states": {each.appliance: {"state": each.state, "reason": each.reason} for each in parts},
    }


def warn_of_mixture(held: SteeringTable) -> None:
    """One line for each cell that is not what its Epoch says, and what to do about it."""
    mismatches = held.verify()
    for mismatch in mismatches:
        note(f"warning: {mismatch}")
    if mismatches:
        note(
            "ask again; if it stays, see `edgesteer topics check`, and whether the workers are of "
            "a later version than this command"
        )


def percent(ten_thousandths: int) -> str:
    """Ten-thousandths as a person reads them."""
    return f"{ten_thousandths / 100:.2f} %"
