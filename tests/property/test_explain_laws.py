"""On logs in which anything happens: what is explained is what was answered, every record that is
named says what the state holds, and none of them was refused."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.cell import Cell
from pipeline.errors import Unexplained
from pipeline.follow.lookup import CLASSES, PassedOver, SiteShare, who
from pipeline.follow.table import SteeringTable
from pipeline.replay.archive import Recording
from pipeline.replay.explain import explain
from pipeline.replay.explanation import Explanation
from pipeline.replay.provenance import Around, Source
from pipeline.state.health import Service
from pipeline.wire.address import parse_address
from pipeline.wire.decode import decode
from tests.cell_world import REGIONS, Log, client, make_log
from tests.explained import follow, steps, write

pytestmark = pytest.mark.slow

CUTS = 40


@dataclass
class Case:
    """What was explained, and the cell and follower at the cut that it was asked of."""

    found: Explanation
    cell: Cell
    table: SteeringTable
    address: bytes
    log: Log


@pytest.fixture(scope="module", params=[1, 2, 5])
def cases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Three clients at each of four cuts, urgent ones among them."""
    random, log = Random(request.param), make_log(request.param, CUTS)
    path: Path = write(tmp_path_factory.mktemp("explain") / "log", {0: log})
    made = []
    with Recording(path) as recording:
        for number in (random.randrange(3, 12), 21, random.randrange(22, 35), CUTS):
            cell, table = Cell(0, 1), SteeringTable()
            follow(table, log, cell, number)
            for _ in range(3):
                address = parse_address(client(random.choice(REGIONS), random))
                klass, at_ms = random.choice(CLASSES), log.cuts[number - 1].at_ms
                try:
                    found = explain(recording, address, at_ms, klass, since_ms=0)
                except Unexplained:
                    assert who(table, address, klass) is None
                    continue
                made.append(Case(found, cell, table, address, log))
    assert len(made) > 6
    return made


def sources(value: Any) -> Iterator[Source]:
    """Every record that is named anywhere in it."""
    if isinstance(value, Source):
        yield value
    elif is_dataclass(value):
        for one in fields(value):
            yield from sources(getattr(value, one.name))
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from sources(each)


def test_the_answer_is_what_who_says_of_the_tables_at_that_cut(cases: list[Case]) -> None:
    for case in cases:
        answer = case.found.answer
        assert answer == who(case.table, case.address, answer.traffic_class)
        assert answer.cut == case.found.cut.number
        assert case.found.agrees


def test_the_moves_lead_to_the_answer_one_from_the_other(cases: list[Case]) -> None:
    def shares(answer: Any) -> list[tuple[str, int]]:
        return [(one.site, one.share) for one in answer.sites] if answer else []

    for case in cases:
        moves = case.found.moves
        assert moves[0].before is None
        for one, other in pairwise(moves):
            assert shares(one.after) == shares(other.before)
        assert shares(moves[-1].after) == shares(case.found.answer)
        assert all(one.why for one in moves)


def test_no_record_that_was_refused_is_named(cases: list[Case]) -> None:
    refused = {
        (topic, one.offset)
        for _, effects in steps(cases[0].log, Cell(0, 1))
        for topic, found in effects.refused.items()
        for one in found
    }
    assert len(refused) > 20
    for case in cases:
        named = {(one.topic, one.offset) for one in sources(case.found)}
        assert len(named) > 10
        assert not named & refused


def test_each_ranked_site_has_the_route_that_its_rank_is_of(cases: list[Case]) -> None:
    for case in cases:
        answer = case.found.answer
        ranked: list[SiteShare | PassedOver] = [*answer.sites, *answer.passed_over]
        for one in ranked:
            route, key = case.found.sites[one.site].route, one.key
            if key is None:
                continue
            assert route is not None
            assert route.route.as_path_len == key.as_path_len
            assert key.announced in (None, route.route.prefix)
            assert isinstance(route.record, Source)
            _, record = decode(route.record.value or b"")
            said = record["site"], record["prefix"], record["as_path_len"], record["action"]
            assert said == (one.site, route.route.prefix, key.as_path_len, "ANNOUNCE")


def test_the_last_report_of_each_appliance_is_what_its_state_holds(cases: list[Case]) -> None:
    for case in cases:
        fleet, health = case.cell.fleet, case.cell.health
        for site in case.found.sites.values():
            for one in site.appliances:
                row = fleet.appliances.get(one.appliance)
                assert (one.report is None) == (health.heard_ms[row] == 0)
                if isinstance(one.report, Source):
                    _, record = decode(one.report.value or b"")
                    assert record["appliance"] == one.appliance
                    assert Service[record["service"]] == health.service[row]
                    assert record["egress_bps"] == health.egress_bps[row]
                    assert record["at_ms"] == health.last_at_ms[row]


def test_the_report_that_changed_a_state_came_with_the_cut_since_which_it_has_it(
    cases: list[Case],
) -> None:
    for case in cases:
        ends = {cut.at_ms: cut.offsets["appliance.health"] for cut in case.log.cuts}
        for site in case.found.sites.values():
            for one in site.appliances:
                if one.told is not None and isinstance(one.change, Source):
                    assert one.told.row.to_state == one.state
                    assert one.change.offset < ends[one.told.at_ms]
                    assert decode(one.change.value or b"")[1]["appliance"] == one.appliance


def test_links_and_paths_name_the_sample_that_the_state_has_last(cases: list[Case]) -> None:
    seen = 0
    for case in cases:
        cell = case.cell
        for site in case.found.sites.values():
            for link in site.links:
                if isinstance(link.sample, Source):
                    _, record = decode(link.sample.value or b"")
                    row = cell.fleet.links.get(link.link)
                    assert record["at_ms"] == cell.links.last_at_ms[row]
                    seen += 1
            if site.path is not None:
                assert site.route is not None
                assert isinstance(site.path.record, Source)
                _, record = decode(site.path.record.value or b"")
                assert (record["site"], record["client"]) == (site.site, site.route.route.prefix)
                assert record["at_ms"] in cell.paths.last_at_ms
                seen += 1
    assert seen


def test_the_plays_that_are_named_make_the_demand_of_the_block(cases: list[Case]) -> None:
    drawn = 0
    for case in cases:
        demand, fleet = case.cell.demand, case.cell.fleet
        around = Around(case.address)
        size = 120 if case.address.startswith(b"\0" * 10) else 48
        length = np.full(len(demand), size, np.uint8)
        here = around.inside(demand.block_hi, demand.block_lo, length)
        here &= demand.block_region == fleet.regions.get(case.found.answer.region)
        level = demand.level_bps(case.found.cut.at_ms)[here].sum(axis=0)
        assert case.found.drawn.level_bps == case.found.block.level_bps == tuple(level.tolist())
        drawn += int(level.sum() > 0)
    assert drawn


def test_every_record_is_where_it_is_said_to_be(cases: list[Case]) -> None:
    for case in cases:
        for one in sources(case.found):
            if one.topic in case.log.values:
                assert case.log.values[one.topic][one.offset] == one.value
                assert one.offset < case.found.cut.offsets[one.topic]
