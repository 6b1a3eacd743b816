"""`edgesteer who`: where an address is served, and why."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import JsonOption, asks_broker, bold, emit, note, run_async, say, table
from pipeline.errors import UsageError, WireError
from pipeline.reasons import Reason

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.follow.lookup import Answer, PassedOver, Proximity, SiteShare


class TrafficClass(StrEnum):
    """As the command line spells them."""

    VOD = "vod"
    LIVE = "live"
    GAME = "game"


@asks_broker
def command(
    broker: "BrokerSettings",
    address: Annotated[str, typer.Argument(help="A client's address, IPv4 or IPv6.")],
    traffic_class: Annotated[
        TrafficClass, typer.Option("--class", help="Class of traffic.")
    ] = TrafficClass.VOD,
    why: Annotated[
        bool,
        typer.Option("--why", help="Each site's proximity key, price, and why it was passed over."),
    ] = False,
    region: Annotated[
        str | None, typer.Option(help="As this region sees it; else the one that is nearest.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Where an address is served: ranked sites, their shares and appliances.

    With --json, `share` and `weight` are ten-thousandths. Status 1 when no prefix covers it.
    """
    from pipeline.cli.answers import answer_json, warn_of_mixture
    from pipeline.follow.follower import snapshot
    from pipeline.follow.lookup import who
    from pipeline.wire.address import parse_address

    try:
        client = parse_address(address)
    except WireError as error:
        raise UsageError(error.detail) from None
    held = run_async(snapshot(broker))
    warn_of_mixture(held)
    answer = who(held, client, traffic_class.name, region)
    if answer is None:
        where = f" in region {region}" if region else ""
        note(f"no prefix in the table covers {address}{where}")
        raise typer.Exit(1)
    if json:
        emit(answer_json(answer, why=why))
    else:
        _tell(answer, why)


def _tell(answer: "Answer", why: bool) -> None:
    from pipeline.cli.answers import percent
    from pipeline.wire.address import format_address, format_prefix

    say(
        f"{bold(format_address(answer.address))} {answer.traffic_class.lower()}: "
        f"prefix {bold(format_prefix(answer.prefix))} in {answer.region}, "
        f"group {answer.group.hex()}, cut {answer.cut}"
    )
    say()
    rows = []
    for each in answer.sites:
        site = [each.site, percent(each.share), each.reason]
        for one in each.appliances or [None]:
            appliance = (
                ["no appliance", "", "", ""]
                if one is None
                else [one.appliance, percent(one.weight), one.state, one.reason]
            )
            rows.append([*site, *appliance])
            site = ["", "", ""]
    if rows:
        header = ["site", "share", "reason", "appliance", "weight", "state", "reason"]
        table(header, rows, right=" r  r")
    else:
        say("no site can serve this class now")
    if why:
        _tell_why(answer)
    elif answer.passed_over:
        note(f"{len(answer.passed_over)} more sites were passed over; --why says why")


def _tell_why(answer: "Answer") -> None:
    from pipeline.cli.sites import price_text

    ranked: list[SiteShare | PassedOver] = [*answer.sites, *answer.passed_over]
    ranked.sort(key=lambda each: (each.rank == 0, each.rank, each.site))
    serving = {each.site for each in answer.sites}
    rows = [
        [
            *(each.rank or "-", each.site),
            *("serves" if each.site in serving else "passed over", each.reason),
            *(*figures(each.key), price_text(each.price)),
        ]
        for each in ranked
    ]
    say()
    header = ["rank", "site", "", "reason", "announced", "AS path", "MED", "RTT", "distance"]
    table([*header, "price"], rows, right="r    rrrrr")
    say()
    say("Ranked by: longest announced prefix, AS path, MED, RTT, distance, name; - was not needed.")
    if any(each.price for each in ranked):
        say("Served where cost + price is least; 1,000 is as far as an AS hop, 1 as a rank.")
    if any(each.reason == Reason.ROUTE_DAMPED for each in ranked):
        say("route_damped: its route or session went and came too often, and ranks last for now.")


def figures(key: "Proximity | None") -> list[str]:
    """What a site ranks by, a cell each; - for what was not needed."""
    from pipeline.wire.address import format_prefix

    if key is None:
        return ["-"] * 5
    announced = "-" if key.announced is None else format_prefix(key.announced)
    med = "-" if key.med is None else str(key.med)
    rtt = "-" if key.rtt_ms is None else f"{key.rtt_ms} ms"
    distance = "-" if key.distance_km is None else f"{key.distance_km} km"
    return [announced, str(key.as_path_len), med, rtt, distance]
