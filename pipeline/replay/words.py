"""Statements of an explanation in words, for people and for the sentences in JSON alike."""

from pipeline.follow.lookup import Answer, PassedOver, Proximity, SiteShare
from pipeline.replay.liveroutes import RouteNews
from pipeline.replay.sitefacts import SiteLoad
from pipeline.replay.trail import Told
from pipeline.wire.address import format_prefix

_TOTAL = 10_000


def verdict_text(told: Told) -> str:
    """Such as "ams-a1 UP -> DOWN, reported_failed: reported FAILED"."""
    row = told.row
    detail = f": {row.detail}" if row.detail else ""
    return f"{row.entity} {row.from_state} -> {row.to_state}, {row.reason}{detail}"


def route_text(news: RouteNews) -> str:
    """What became of a route."""
    route = news.now or news.was
    assert route is not None
    who = f"{route.site}: {format_prefix(route.prefix)} by peer {route.peer}"
    if news.now is None:
        return f"{who} withdrawn"
    figures = _figures(news.now.as_path_len, news.now.med)
    if news.was is None:
        return f"{who} announced, {figures}"
    return f"{who} {_figures(news.was.as_path_len, news.was.med)} -> {figures}"


def load_text(site: str, then: SiteLoad, now: SiteLoad) -> str:
    """How the load of a site and what it may take changed."""
    return (
        f"{site} projected {gbps(then.projected_bps)} -> {gbps(now.projected_bps)}, "
        f"target {gbps(then.target_bps)} -> {gbps(now.target_bps)}"
    )


def served_text(answer: Answer | None) -> str:
    """Such as "ams 70 % and fra 30 %"."""
    if answer is None:
        return "nobody (no prefix covered it)"
    parts = [f"{one.site} {percent(one.share)}" for one in answer.sites]
    return " and ".join(parts) or "nobody (no site could serve the class)"


def because(answer: Answer) -> str:
    """Why the answer was what it was."""
    nearer = [one for one in answer.passed_over if one.rank]
    if not answer.sites:
        said = ", ".join(f"{one.site} ({one.reason})" for one in nearer)
        return f"none of its sites could: {said}" if said else "it has no sites"
    first = answer.sites[0]
    passed = [one for one in nearer if one.rank < first.rank]
    if passed:
        said = ", ".join(f"{one.site} ({one.reason})" for one in passed)
        text = f"what ranks before {first.site} was passed over: {said}"
    else:
        others: list[SiteShare | PassedOver] = [*answer.sites[1:], *nearer]
        ranked = sorted(others, key=lambda one: one.rank)
        text = f"{first.site} ranks first" + (
            f", {_nearer(first.key, ranked[0].key, ranked[0].site)}" if ranked else " and alone"
        )
    if len(answer.sites) > 1:
        spilled = ", ".join(f"{one.site} ({one.reason})" for one in answer.sites)
        text += f"; shares: {spilled}"
    return text


_FIGURES = (
    ("tier", "its announcement is more specific than that of"),
    ("as_path_len", "its AS path is shorter than that of"),
    ("med", "its MED is lower than that of"),
    ("rtt_ms", "its RTT is lower than that of"),
    ("distance_km", "it is less far than"),
)


def _nearer(key: Proximity, other: Proximity | None, site: str) -> str:
    """What decided between the first two."""
    for name, text in _FIGURES:
        if other is not None and getattr(key, name) != getattr(other, name):
            return f"{text} {site}"
    return f"its name sorts before {site}"


def _figures(as_path_len: int, med: int) -> str:
    return f"AS path {as_path_len}" + (f" MED {med}" if med >= 0 else "")


def percent(share: int) -> str:
    """Ten-thousandths, as short as they can be said."""
    whole, rest = divmod(share, _TOTAL // 100)
    return f"{whole}.{rest:02} %" if rest else f"{whole} %"


def gbps(bps: int) -> str:
    """A rate."""
    return f"{bps / 1e9:.2f} Gbit/s"


def ms(step: int | None) -> str:
    """A step of the RTT ladder."""
    return "-" if step is None else f"{step} ms"
