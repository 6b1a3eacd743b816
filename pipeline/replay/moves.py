"""Who moved this client: what happened at the cut at which an answer changed.

Rule: everything that a cut brought and that concerns a site of the answer before or after is
evidence, each piece with its record: verdicts on the site and its appliances, routes around the
address, inventory, measured paths where a rank rests on them, the configuration, and the load of
the sites whose shares moved. `why` puts the decisive ones into a sentence: what stopped a site that
lost comes first, then what changed the ranking, then load."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pipeline.cut import Cut
from pipeline.decide.weights import Spread
from pipeline.follow.lookup import Answer, PassedOver, SiteShare
from pipeline.reasons import Reason
from pipeline.replay.provenance import InSnapshot, Origin, Records, Source
from pipeline.replay.served import Change
from pipeline.replay.trail import Told, Trail
from pipeline.replay.words import load_text, ms, route_text, verdict_text
from pipeline.wire.address import format_prefix
from schemas.registry import APPLIANCE_HEALTH, BGP_ROUTES, FLEET_INVENTORY, TRAFFIC_PATHS

#: What of a site's share is said where no Reason is published: the site is not in the ranking.
NOT_RANKED = "not_ranked"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that happened at the cut. `kind`: config, table, cell, site, appliance, inventory,
    route, path or load."""

    kind: str
    entity: str
    text: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class ShareMoved:
    """A site whose share (of 10,000) changed, and what the answer says of it now."""

    site: str
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the answer. `record`: of its cut; `before`, `after` None where no prefix covered
    the address."""

    cut: Cut
    record: Origin
    before: Answer | None
    after: Answer | None
    shares: tuple[ShareMoved, ...]
    why: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Witness:
    """The cell in which a change happened. `site_of`: appliance -> its site; `cuts`, `configs`: the
    records, by (number, term, writer) and by hash."""

    trail: Trail
    records: Records
    site_of: dict[str, str]
    cuts: dict[tuple[int, int, str], Source]
    configs: dict[str, Source]


def move_of(change: Change, witness: Witness) -> Move:
    """What a change was, and what made it."""
    cut = change.entry.cut
    shares = tuple(_shares(change.before, change.after))
    evidence = tuple(_evidence(change, shares, witness))
    return Move(
        cut=cut,
        record=witness.cuts.get((cut.number, cut.term, cut.writer)),
        before=change.before,
        after=change.after,
        shares=shares,
        why=_why(change, shares, evidence, witness),
        evidence=evidence,
    )


def sites_of(*answers: Answer | None) -> list[str]:
    """Every site that the answers name, ranked or passed over."""
    return [*dict.fromkeys(one.site for answer in answers for one in _named(answer))]


def _named(answer: Answer | None) -> list[SiteShare | PassedOver]:
    return [*answer.sites, *answer.passed_over] if answer is not None else []


def _shares(before: Answer | None, after: Answer | None) -> Iterator[ShareMoved]:
    old = {one.site: one.share for one in before.sites} if before else {}
    new = {one.site: one.share for one in after.sites} if after else {}
    said = {one.site: one.reason for one in _named(after)}
    for site in dict.fromkeys([*old, *new]):
        if old.get(site, 0) != new.get(site, 0):
            yield ShareMoved(site, old.get(site, 0), new.get(site, 0), said.get(site, NOT_RANKED))


def _evidence(
    change: Change, shares: tuple[ShareMoved, ...], witness: Witness
) -> Iterator[Evidence]:
    trail, number = witness.trail, change.entry.cut.number
    sites = set(sites_of(change.before, change.after))
    before = [at for at, (cut, _) in enumerate(trail.configs) if cut == number and at]
    for at in before:
        text = f"configuration {trail.configs[at - 1][1]} -> {trail.configs[at][1]}"
        named = trail.configs[at][1]
        yield Evidence("config", named, text, witness.configs.get(named))
    regions = {one.region for one in (change.before, change.after) if one is not None}
    for told in trail.verdicts:
        if told.cut == number and concerns(told, sites, regions, witness):
            yield Evidence(
                told.row.kind, told.row.entity, verdict_text(told), report_of(told, witness)
            )
    for cut, kind, name, offset in trail.inventory_news:
        if cut == number and _in_inventory(kind, name, sites, regions, witness):
            shown = format_prefix(bytes.fromhex(name)) if kind == "network" else name
            found = witness.records.at(FLEET_INVENTORY.name, offset)
            gone = found is not None and found.value is None
            ended = "was forgotten" if kind == "drain" else "left the inventory"
            text = f"{kind} {shown}{f' {ended}' if gone else ': new inventory record'}"
            yield Evidence("inventory", shown, text, found)
    for cut, news in trail.route_news:
        site = (news.was or news.now or _NOBODY).site
        if cut == number and site in sites:
            found = witness.records.at(BGP_ROUTES.name, news.offset)
            yield Evidence("route", site, route_text(news), found)
    yield from _paths(change, witness)
    for one in shares:
        then, now = (held.get(one.site) for held in (change.entry.loads_before, change.entry.loads))
        if then is not None and now is not None and then != now:
            yield Evidence("load", one.site, load_text(one.site, then, now), None)


def concerns(told: Told, sites: set[str], regions: set[str], witness: Witness) -> bool:
    """Whether a verdict is on one of these sites, its appliances or sessions, the table of one of
    these regions or on the whole cell."""
    kind, entity = told.row.kind, told.row.entity
    if kind == "appliance":
        return witness.site_of.get(entity) in sites
    if kind == "session":
        return entity.partition("|")[0] in sites
    return kind == "cell" or entity in (sites if kind == "site" else regions)


def _in_inventory(
    kind: str, name: str, sites: set[str], regions: set[str], witness: Witness
) -> bool:
    if kind == "appliance":
        return witness.site_of.get(name) in sites
    if kind == "drain":
        kind, _, name = name.partition(":")
    return kind == "network" or name in (sites if kind == "site" else regions)


def _paths(change: Change, witness: Witness) -> Iterator[Evidence]:
    """The samples that this cut took over from sites whose RTT decides otherwise than before."""

    def steps(answer: Answer | None) -> dict[str, int | None]:
        return {one.site: one.key.rtt_ms for one in _named(answer) if one.key is not None}

    old, new = steps(change.before), steps(change.after)
    moved = {site for site in old.keys() & new.keys() if old[site] != new[site]}
    for cut, name, offset in witness.trail.path_news:
        site = name.rpartition("|")[0]
        if cut == change.entry.cut.number and site in moved:
            text = f"{site} RTT {ms(old[site])} -> {ms(new[site])}"
            yield Evidence("path", site, text, witness.records.at(TRAFFIC_PATHS.name, offset))


def report_of(told: Told, witness: Witness) -> Origin:
    """The health report that a verdict rests on; None where it rests on none."""
    if told.row.kind != "appliance":
        return None
    found = witness.records.at(APPLIANCE_HEALTH.name, told.report)
    if found is None and witness.trail.first_cut > 1 and told.row.reason != Reason.NEVER_REPORTED:
        return InSnapshot(witness.trail.first_cut - 1)
    return found


class _Nobody:
    site = ""


_NOBODY = _Nobody()


def _why(
    change: Change,
    shares: tuple[ShareMoved, ...],
    evidence: tuple[Evidence, ...],
    witness: Witness,
) -> str:
    by_kind: dict[str, list[Evidence]] = {}
    for one in evidence:
        by_kind.setdefault(one.kind, []).append(one)
    parts = [one.text for kind in ("config", "table", "cell") for one in by_kind.get(kind, ())]
    told = [one for one in witness.trail.verdicts if one.cut == change.entry.cut.number]
    moved = [one.site for one in shares] or sites_of(change.before, change.after)
    for site in sorted(moved):
        parts += _appliances(one for one in told if witness.site_of.get(one.row.entity) == site)
        parts += [verdict_text(one) for one in told if _decides(one, site)]
    for kind in ("session", "inventory", "route", "path"):
        found = by_kind.get(kind, []) if kind != "inventory" or not parts else []
        texts = [*dict.fromkeys(one.text for one in found)]
        parts += texts[:2]
        if len(texts) > 2:
            parts.append(f"and {len(texts) - 2} more of kind {kind}")
    if not parts:
        parts = [one.text for one in by_kind.get("load", ())]
    parts = parts or [f"{one.site} {one.reason}" for one in shares]
    return "; ".join(parts) or f"weights of {_reweighed(change)} follow measured load"


def _reweighed(change: Change) -> str:
    """The sites of which only the weights changed."""
    old = {one.site: one.appliances for one in change.before.sites} if change.before else {}
    new = {one.site: one.appliances for one in change.after.sites} if change.after else {}
    return ", ".join(site for site in new if new[site] != old.get(site))


def _decides(told: Told, site: str) -> bool:
    """Whether it is a verdict on what the site may serve or how full it is; on what its weights
    rest moves nobody to another site."""
    row = told.row
    return row.kind == "site" and row.entity == site and row.to_state not in tuple(Spread)


def _appliances(told: Iterable[Told]) -> Iterator[str]:
    """Verdicts on appliances, those alike together."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for one in told:
        row = one.row
        alike.setdefault((row.from_state, row.to_state, row.reason), []).append(row.entity)
    for (old, new, reason), names in alike.items():
        who = names[0] if len(names) == 1 else f"{len(names)} appliances ({names[0]} ...)"
        yield f"{who} {old} -> {new}, {reason}"
