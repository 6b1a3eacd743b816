"""`edgesteer sites`: how full each site is, and what its capacity costs."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import JsonOption, asks_broker, emit, note, run_async, say, si, table

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.follow.standing import SiteStanding


@asks_broker
def command(
    broker: "BrokerSettings",
    site: Annotated[str | None, typer.Argument(help="Only this site.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Only those that are not at ease.")] = False,
    json: JsonOption = False,
) -> None:
    """The projected load of each site and the price of its capacity, the fullest first.

    A client is served where proximity cost + price is least; a cost of 1,000 is an AS hop. Status 1
    when there is no such site.
    """
    from pipeline.follow.follower import snapshot
    from pipeline.follow.standing import standing_of
    from schemas.registry import STEERING_SITES

    held = run_async(snapshot(broker, [STEERING_SITES.name]))
    found = [
        (held.cell(partition).cut, partition, standing_of(value))
        for partition, key, value in held.items(STEERING_SITES.name)
        if site is None or key == site.encode()
    ]
    if not found:
        note("no site was planned for yet" if site is None else f"no site {site!r} was planned for")
        raise typer.Exit(1)
    shown = [one for one in found if not full or one[2].state != "ROOM"]
    shown.sort(key=lambda one: (-_used(one[2]), one[2].site, one[1]))
    if json:
        for cut, partition, one in shown:
            emit(_json(cut, partition, one))
        return
    rows = [
        [
            *(one.site, one.region, cut, one.state, f"{_used(one):.0%}"),
            *(si(rate, "bps") for rate in (one.target_bps, *one.load_bps)),
            *(si(one.overflow_bps, "bps") if one.overflow_bps else "-", price_text(_dearest(one))),
        ]
        for cut, _, one in shown
    ]
    header = ["site", "region", "cut", "state", "of target", "target", "vod", "live", "game"]
    if rows:
        table([*header, "no room", "price"], rows, right="  r rrrrrrr")
    else:
        say(f"all of {len(found)} have room")


def price_text(price: int | None) -> str:
    """As a person reads it."""
    from pipeline.wire.tables import NOWHERE

    if price is None:
        return "-"
    return "no room anywhere" if price == NOWHERE else f"{price:,}"


def _dearest(one: "SiteStanding") -> int:
    """The price of the dearest class."""
    from pipeline.wire.tables import NOWHERE

    return NOWHERE if NOWHERE in one.price else max(one.price)


def _used(one: "SiteStanding") -> float:
    return sum(one.load_bps) / max(one.target_bps, 1)


def _json(cut: int, partition: int, one: "SiteStanding") -> dict[str, Any]:
    by_class = ("vod", "live", "game")
    return {
        "site": one.site,
        "region": one.region,
        "partition": partition,
        "cut": cut,
        "state": one.state,
        "target_bps": one.target_bps,
        "load_bps": dict(zip(by_class, one.load_bps, strict=True)),
        "overflow_bps": one.overflow_bps,
        "price": dict(zip(by_class, one.price, strict=True)),
    }
