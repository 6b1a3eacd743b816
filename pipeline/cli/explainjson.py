"""An explanation as one JSON object (docs/replay.md, "Explain"). Names are those of `edgesteer who
--json` where they mean the same; `record` and `records` are where a statement stands written."""

from typing import Any

from pipeline.cli.answers import answer_json
from pipeline.cli.common import iso
from pipeline.follow.lookup import CLASSES, Answer
from pipeline.replay.explanation import Explanation, Published, Verdict
from pipeline.replay.moves import Move
from pipeline.replay.provenance import InSnapshot, Origin
from pipeline.replay.sitefacts import ApplianceFacts, SiteFacts
from pipeline.replay.trail import Told
from pipeline.replay.words import because
from pipeline.wire.address import format_prefix


def explanation_json(found: Explanation) -> dict[str, Any]:
    """The whole of it."""
    cut, plain = found.cut, answer_json(found.answer, why=True)
    for each in (*plain["sites"], *plain["passed_over"]):
        facts = found.sites[each["site"]]
        each |= _site(facts, each.get("appliances", []))
        each["records"]["weights"] = _published(found.weights[facts.site])
    drawn = found.drawn
    return {
        **plain,
        "asked": iso(found.asked_ms),
        "at": iso(cut.at_ms),
        "cause": cut.cause,
        "because": because(found.answer),
        "code_version": cut.code_version,
        "config": cut.config_hash,
        "agrees": found.agrees,
        "held": found.held,
        "records": {
            "cut": origin_json(found.cut_record),
            "config": origin_json(found.config_record),
            "epoch": origin_json(found.epoch),
            "region": origin_json(found.region_record),
            "group": _published(found.group),
        },
        "covering": [
            {
                "prefix": format_prefix(one.prefix),
                "region": one.region,
                "group": one.group.hex(),
                "record": _published(one.published),
            }
            for one in found.covers
        ],
        "networks": [
            {"network": format_prefix(prefix), "record": origin_json(origin)}
            for prefix, origin in found.networks
        ],
        "demand": {
            "group_bps": _by_class(found.planned_bps),
            "block_bps": _by_class(found.block.level_bps),
            "forecast_bps": _by_class(found.block.expected_bps),
            "forecast_error_bps": {
                klass: None if off < 0 else off
                for klass, off in _by_class(found.block.error_bps).items()
            },
            "recorded_bps": _by_class(drawn.level_bps),
            "plays": drawn.by_appliance,
            "record": origin_json(drawn.source),
        },
        "known_since": iso(found.known_since_ms),
        "moves": [_move(one) for one in found.moves],
        "verdicts": [_verdict(one) for one in found.verdicts],
    }


def origin_json(origin: Origin) -> dict[str, Any] | None:
    """Where something stands written: a record (of several the newest, `count` of them from
    `first_offset` on), or {"snapshot_cut": N}; null where there is none."""
    if origin is None:
        return None
    if isinstance(origin, InSnapshot):
        return {"snapshot_cut": origin.cut}
    record: dict[str, Any] = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "at": iso(origin.at_ms),
    }
    if origin.first_offset >= 0:
        record |= {"first_offset": origin.first_offset, "count": origin.count}
    return record


def _published(one: Published) -> dict[str, Any] | None:
    """A table record: the cut that wrote it, and between which offsets."""
    if not one.cut:
        return origin_json(one.epoch)
    return {
        "topic": one.topic,
        "cut": one.cut,
        "first_offset": one.first_offset if one.first_offset >= 0 else None,
        "end_offset": one.end_offset if one.end_offset >= 0 else None,
        "epoch": origin_json(one.epoch),
    }


def _site(facts: SiteFacts, shown: list[dict[str, Any]]) -> dict[str, Any]:
    """What is added to a site of `who --json`; `shown`: its appliances there, as
    published (weight null: the site serves nothing of this)."""
    published = {one["appliance"]: one for one in shown}
    route, path = facts.route, facts.path
    return {
        "kind": facts.kind,
        "serves": {name.lower(): why for name, why in facts.serves.items()},
        "panic": facts.panic,
        "admitted": facts.admitted,
        "since": _since(facts.eligible_told),
        "load": {
            "state": facts.load,
            "since": _since(facts.load_told),
            "target": facts.target,
            "capacity_bps": facts.capacity_bps,
            "usable_bps": facts.usable_bps,
            "target_bps": facts.target_bps,
            "projected_bps": _by_class(facts.projected_bps),
            "without_room_bps": facts.without_room_bps,
            "price": _by_class(facts.price),
            "measured_bps": facts.measured_bps,
        },
        "appliances": [
            {**_appliance(one), **published.get(one.appliance, {})} for one in facts.appliances
        ],
        "links": [
            {
                "link": one.link,
                "used_bps": one.used_bps,
                "capacity_bps": one.capacity_bps,
                "record": origin_json(one.sample),
            }
            for one in facts.links
        ],
        "route": route
        and {
            "prefix": format_prefix(route.route.prefix),
            "peer": route.route.peer,
            "path_id": route.route.path_id,
            "as_path_len": route.route.as_path_len,
            "med": None if route.route.med < 0 else route.route.med,
            "others": route.others,
            "damped_until_ms": route.damped_until_ms or None,
            "record": origin_json(route.record),
        },
        "path": path
        and {
            "rtt_us": path.rtt_us,
            "step_ms": path.step_ms,
            "loss": path.loss,
            "record": origin_json(path.record),
        },
        "records": {
            "site": origin_json(facts.inventory),
            "drains": {name: origin_json(origin) for name, origin in facts.drains},
        },
    }


def _appliance(facts: ApplianceFacts) -> dict[str, Any]:
    return {
        "appliance": facts.appliance,
        "weight": None,
        "state": facts.state,
        "reason": facts.reason,
        "since": iso(facts.since_ms) if facts.since_ms else None,
        "service": facts.service,
        "utilisation": facts.utilisation,
        "load": facts.load,
        "usable_bps": facts.usable_bps,
        "capacity_bps": facts.capacity_bps,
        "records": {
            "appliance": origin_json(facts.inventory),
            "report": origin_json(facts.report),
            "change": origin_json(facts.change),
        },
    }


def _move(move: Move) -> dict[str, Any]:
    cut = move.cut
    return {
        "at": iso(cut.at_ms),
        "partition": cut.partition,
        "cut": cut.number,
        "cause": cut.cause,
        "record": origin_json(move.record),
        "before": _shares(move.before),
        "after": _shares(move.after),
        "moved": [
            {"site": one.site, "before": one.before, "after": one.after, "reason": one.reason}
            for one in move.shares
        ],
        "why": move.why,
        "evidence": [
            {
                "kind": one.kind,
                "entity": one.entity,
                "text": one.text,
                "record": origin_json(one.origin),
            }
            for one in move.evidence
        ],
    }


def _shares(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "prefix": format_prefix(answer.prefix),
        "region": answer.region,
        "sites": [{"site": one.site, "share": one.share} for one in answer.sites],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    told, row = verdict.told, verdict.told.row
    return {
        "at": iso(told.at_ms),
        "partition": told.partition,
        "cut": told.cut,
        "kind": row.kind,
        "entity": row.entity,
        "from_state": row.from_state,
        "to_state": row.to_state,
        "reason": row.reason,
        "detail": row.detail,
        "record": origin_json(verdict.report),
    }


def _since(told: Told | None) -> str | None:
    return iso(told.at_ms) if told else None


def _by_class(values: tuple[int, ...]) -> dict[str, int]:
    return {name.lower(): value for name, value in zip(CLASSES, values, strict=True)}
