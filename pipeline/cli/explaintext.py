"""An explanation for a person: one sentence first, then what lines up below it.

Records are written topic/partition@offset; a run of them by its newest, with how many there are
since which; table records as the offsets that they lie between."""

from collections import Counter
from collections.abc import Iterator

from pipeline.cli.common import bold, iso, say, si, table
from pipeline.cli.sites import price_text
from pipeline.cli.who import figures
from pipeline.follow.lookup import CLASSES, Proximity
from pipeline.replay.explanation import Explanation, Published
from pipeline.replay.moves import Move
from pipeline.replay.provenance import InSnapshot, Origin, Source
from pipeline.replay.sitefacts import BlockDemand
from pipeline.replay.words import because, percent, served_text, verdict_text
from pipeline.state.forecast import HORIZON_MS
from pipeline.wire.address import format_address, format_prefix
from pipeline.wire.decode import decode

#: Things alike, appliances of a site and verdicts that a person is told of one by one.
ALIKE_MAX, APPLIANCES_MAX, VERDICTS_MAX = 4, 6, 12


def cut_text(found: Explanation) -> str:
    """The cut that answered, as PARTITION/NUMBER."""
    return f"{found.cut.partition}/{found.cut.number}"


def tell_explanation(found: Explanation) -> None:
    """All of it on stdout."""
    answer = found.answer
    say(
        f"At {iso(found.asked_ms)} (cut {cut_text(found)} of {_time(found.cut.at_ms)}) "
        f"{bold(format_address(answer.address))} was served {answer.traffic_class} by "
        f"{bold(served_text(answer))}, because {because(answer)}."
    )
    if found.held:
        say(f"The table of {answer.region} is held back ({found.held}): routes may say otherwise.")
    for number, move in enumerate(found.moves):
        if number:
            say()
        _tell_move(move)
    if not found.moves:
        say(f"It was so since {iso(found.known_since_ms)} at least, where what is known begins.")
    _tell_sites(found)
    _tell_appliances(found)
    _tell_records(found)
    _tell_verdicts(found)


def _tell_move(move: Move) -> None:
    cut = move.cut
    where = f"{iso(cut.at_ms)} (cut {cut.partition}/{cut.number}, {cut.cause})"
    after = served_text(move.after)
    if move.before is None:
        say(f"First answered at {where} by {after}: {move.why}.")
    else:
        say(f"Moved at {where} from {served_text(move.before)} to {after}: {move.why}.")
    rows = [*_evidence(move)]
    if rows:
        say()
        table(["  what happened at this cut", "record", "taken"], rows)


def _evidence(move: Move) -> Iterator[list[str]]:
    """A line for each thing that happened, so many of a kind."""
    kinds = dict.fromkeys(one.kind for one in move.evidence)
    for kind in kinds:
        alike = [one for one in move.evidence if one.kind == kind]
        for one in alike[:ALIKE_MAX]:
            yield [f"  {one.text}", _record(one.origin), _at(one.origin)]
        if len(alike) > ALIKE_MAX:
            last = alike[-1].origin
            text = f"  and {len(alike) - ALIKE_MAX} more of kind {kind}, the last one at"
            yield [text, _record(last), _at(last)]


def _tell_sites(found: Explanation) -> None:
    answer = found.answer
    shown: list[tuple[int, str, str, str, Proximity | None]] = [
        (one.rank, one.site, percent(one.share), one.reason, one.key) for one in answer.sites
    ]
    shown += [(one.rank, one.site, "-", one.reason, one.key) for one in answer.passed_over]
    shown.sort(key=lambda each: (each[0] == 0, each[:2]))
    say()
    table(
        ["rank", "site", "share", "reason", "announced", "AS path", "MED", "RTT", "distance"],
        [[rank or "-", *rest, *figures(key)] for rank, *rest, key in shown],
        right="r r  rrrr",
    )
    rows = []
    for _, name, *_ in shown:
        site = found.sites[name]
        able = "+".join(klass for klass, why in site.serves.items() if why is None) or "nothing"
        since = _time(site.eligible_told.at_ms) if site.eligible_told else "-"
        rates = (site.usable_bps, site.target_bps, sum(site.projected_bps), site.measured_bps)
        price = price_text(site.price[CLASSES.index(answer.traffic_class)])
        rows.append([name, able, since, *(si(rate, "bps") for rate in rates), site.load, price])
    say()
    header = ["site", "serves", "since", "usable", "target", "projected", "measured", "load"]
    table([*header, "price"], rows, right="   rrrr r")


def _tell_appliances(found: Explanation) -> None:
    weights = {one.appliance: one.weight for site in found.answer.sites for one in site.appliances}
    rows, left = [], 0
    for name, site in found.sites.items():
        told = list(site.appliances)
        if not any(one.appliance in weights for one in told):
            told = [one for one in told if one.usable_bps < one.capacity_bps]
        told.sort(key=lambda one: one.state == "UP")
        left += max(0, len(told) - APPLIANCES_MAX)
        for one in told[:APPLIANCES_MAX]:
            weight = percent(weights[one.appliance]) if one.appliance in weights else "-"
            since = _time(one.since_ms) if one.since_ms else "-"
            state = [one.state, one.reason, since, f"{one.load:.2f}"]
            records = [_record(one.change), _record(one.report)]
            rows.append([name, one.appliance, weight, *state, *records])
            name = ""
    if rows:
        say()
        header = ["site", "appliance", "weight", "state", "reason", "since", "load"]
        table([*header, "changed by", "last report"], rows, right="  r   r")
    if left:
        say(f"and {left} more (--json has all)")


def _tell_records(found: Explanation) -> None:
    say()
    table(["rests on", "record", "taken", ""], _records(found))


def _records(found: Explanation) -> Iterator[list[str]]:
    """A line for each record, or run of records, that is not named elsewhere."""
    yield _line("cut", found.cut_record, f"term {found.cut.term} by {found.cut.writer}")
    yield _line("configuration", found.config_record, found.cut.config_hash)
    yield _line("Epoch", found.epoch, "the same hash" if found.agrees else "another hash")
    for cover in found.covers:
        what = f"prefix {format_prefix(cover.prefix)} {cover.region}"
        yield _published(what, cover.published, f"group {cover.group.hex()}")
    yield _published("group", found.group, f"planned for {_rates(found.planned_bps)}")
    yield _line("region", found.region_record, found.answer.region)
    for prefix, origin in found.networks:
        yield _line("network", origin, format_prefix(prefix))
    for name, site in found.sites.items():
        yield _line(f"site {name}", site.inventory, site.kind)
        for drain, origin in site.drains:
            yield _line(f"drain of {drain}", origin, f"{percent(site.admitted)} admitted")
        if site.route is not None:
            yield _line(f"route of {name}", site.route.record, _route(found, name))
        if site.path is not None:
            rtt = f"{site.path.rtt_us / 1000:.1f} ms smoothed, step {site.path.step_ms} ms"
            yield _line(f"path from {name}", site.path.record, rtt)
        for link in site.links:
            used = f"{si(link.used_bps, 'bps')} of {si(link.capacity_bps, 'bps')}"
            yield _line(f"link {link.link}", link.sample, used)
        if found.weights[name].cut:
            yield _published(f"weights of {name}", found.weights[name], "")
    drawn = found.drawn
    site_of = {one.appliance: name for name, site in found.sites.items() for one in site.appliances}
    served = Counter[str]()
    for name, count in drawn.by_appliance.items():
        served[site_of.get(name, name)] += count
    by = ", ".join(f"{name} {count}" for name, count in served.items())
    level_bps = found.block.level_bps
    of_it = "" if drawn.level_bps == level_bps else f" ({_rates(drawn.level_bps)} recorded)"
    says = f"{_rates(level_bps)}{of_it}; plays by site: {by or 'none'}"
    yield _line("demand of its block", drawn.source, says)
    if any(found.block.expected_bps):
        yield _line("forecast of it", None, f"{_forecast(found.block)} in {HORIZON_MS // 1000} s")


def _route(found: Explanation, name: str) -> str:
    facts = found.sites[name].route
    assert facts is not None
    text = format_prefix(facts.route.prefix)
    if isinstance(facts.record, Source) and facts.record.value is not None:
        fields = decode(facts.record.value)[1]
        text += f" from {facts.route.peer} AS{fields['peer_asn']}: {fields['as_path']}"
    text += f" (and {facts.others} more)" if facts.others else ""
    if facts.damped_until_ms:
        text += f", damped until {_time(facts.damped_until_ms)}"
    return text


def _forecast(block: BlockDemand) -> str:
    each = zip(CLASSES, block.expected_bps, block.error_bps, strict=True)
    return ", ".join(
        f"{name} {si(value, 'bps')}" + (f" (off by {si(off, 'bps')} as a rule)" if off >= 0 else "")
        for name, value, off in each
        if value
    )


def _tell_verdicts(found: Explanation) -> None:
    shown = {(one.cut.partition, one.cut.number) for one in found.moves}
    told = [one for one in found.verdicts if (one.told.partition, one.told.cut) not in shown]
    rows = [
        [
            _time(one.told.at_ms),
            f"{one.told.partition}/{one.told.cut}",
            verdict_text(one.told),
            _record(one.report),
        ]
        for one in told[-VERDICTS_MAX:]
    ]
    if rows:
        say()
        table(
            ["other verdicts", "cut", "on these sites, their appliances and tables", "record"], rows
        )
    if len(told) > VERDICTS_MAX:
        say(f"and {len(told) - VERDICTS_MAX} before (--json has all)")


def _line(what: str, origin: Origin, says: str) -> list[str]:
    return [what, _record(origin), _at(origin), says]


def _published(what: str, one: Published, says: str) -> list[str]:
    """The record lies between two offsets; with the cut that wrote it."""
    if not one.cut:
        return [what, _record(one.epoch), "", says]
    between = f"[{one.first_offset}, {one.end_offset})" if one.first_offset >= 0 else ""
    return [what, f"{one.topic}/{_partition(one)}{between}", _at(one.epoch), says]


def _partition(one: Published) -> str:
    return str(one.epoch.partition) if isinstance(one.epoch, Source) else "?"


def _record(origin: Origin) -> str:
    """`topic/partition@offset`; of a run how many records it has."""
    if origin is None:
        return "-"
    if isinstance(origin, InSnapshot):
        return f"snapshot at cut {origin.cut}"
    text = f"{origin.topic}/{origin.partition}@{origin.offset}"
    if origin.first_offset >= 0 and origin.count > 1:
        text += f" (of {origin.count} from @{origin.first_offset})"
    return text


def _at(origin: Origin) -> str:
    return _time(origin.at_ms) if isinstance(origin, Source) else ""


def _time(at_ms: int) -> str:
    """The time of day."""
    return iso(at_ms)[11:-1]


def _rates(values: tuple[int, ...]) -> str:
    pairs = zip(CLASSES, values, strict=True)
    return ", ".join(f"{name} {si(value, 'bps')}" for name, value in pairs if value) or "nothing"
