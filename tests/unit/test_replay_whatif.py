"""What would have been, in a world that can be reckoned by hand (tests/diffworld.py)."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cell import Cell
from pipeline.cli.main import app
from pipeline.config import SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.errors import UsageError
from pipeline.replay.archive import Recording
from pipeline.replay.changes import (
    Drained,
    Failed,
    LostLinks,
    OtherMed,
    Scaled,
    Settings,
    known_settings,
)
from pipeline.replay.diff import diff
from pipeline.replay.fold import Change, Ignored, fold
from pipeline.replay.strain import Strain, compare
from pipeline.replay.watch import watched
from pipeline.replay.whatif import WhatIf, begins_ms, names_of, what_if
from pipeline.state.screens import BYTES_MAX
from pipeline.state.sessionroutes import session_routes
from pipeline.wire.encode import encode
from pipeline.wire.rows import TopicRows
from schemas.registry import PLAY_EVENTS
from tests import explained, frames
from tests.cell_world import GBPS, make_log
from tests.diffworld import CUTS, FAR, FROM_CUT, NEAR, PEER, log, moment, opened
from tests.recorded import write

FROM = moment(FROM_CUT)
CONFIG = SteeringConfig()


def asked(path: Path, *changes: Change, at: int = CUTS, made: object = None) -> WhatIf:
    with opened(path, made if made is not None else log()) as recording:  # type: ignore[arg-type]
        return what_if(recording, changes, "changed", begins_ms(recording), moment(at))


def moved(found: WhatIf) -> dict[tuple[str | None, str | None], int]:
    return {(one["from"], one["to"]): one["moved_bps"] for one in found.diff.moves.to_dicts()}


def test_with_nothing_changed_nothing_differs_and_the_hashes_are_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "log", make_log(7, 40), [], from_cut=10)
    with Recording(path) as recording:
        end = recording.manifest.cells[0].last_at_ms
        found = what_if(recording, (), "", begins_ms(recording), end)
    assert found.diff.equal
    assert found.diff.a.cells == found.diff.b.cells
    assert not found.compared.worse.height
    assert not found.harms


@pytest.mark.parametrize("of", ["site", "appliance"])
def test_without_a_site_its_traffic_goes_where_it_can_and_the_rest_nowhere(
    tmp_path: Path, of: str
) -> None:
    failed = Failed([NEAR], [], FROM) if of == "site" else Failed([], ["near-a0"], FROM)
    found = asked(tmp_path / "log", failed)
    assert moved(found) == {(NEAR, FAR): 6_240_000_000, (NEAR, None): 3 * GBPS}
    assert found.diff.appliances.select("appliance", "state_b", "reason_b").rows() == [
        ("near-a0", "DOWN", "reported_failed")
    ]
    (worse,) = found.compared.worse.to_dicts()
    assert (worse["region"], worse["site"], worse["class"], worse["kind"]) == (
        "eu", None, "VOD", "MADE",
    )  # fmt: skip
    assert (worse["first_ms"], worse["for_ms"]) == (FROM, 1000 * (CUTS - FROM_CUT))
    assert (worse["worst_bps"], worse["was_bps"], worse["ends"]) == (3 * GBPS, 0, False)
    assert found.harms


def test_without_a_site_that_serves_nothing_nothing_moves(tmp_path: Path) -> None:
    found = asked(tmp_path / "log", Failed([FAR], [], FROM))
    assert moved(found) == {}
    assert not found.harms
    assert not found.diff.equal  # its appliance is down all the same


@pytest.mark.parametrize("of", ["site", "region"])
def test_out_of_service_what_has_another_site_moves_and_the_rest_stays(
    tmp_path: Path, of: str
) -> None:
    drained = Drained([NEAR], [], FROM) if of == "site" else Drained([], ["eu"], FROM)
    found = asked(tmp_path / "log", drained)
    assert moved(found) == ({(NEAR, FAR): 6_240_000_000} if of == "site" else {})
    assert not found.harms
    sites = {one["site"]: one for one in found.diff.sites.to_dicts()}
    assert (sites[NEAR]["serves_a"], sites[NEAR]["serves_b"]) == ("VOD+LIVE+GAME", "NONE")
    assert sites[NEAR]["load_bps_b"] == (3 * GBPS if of == "site" else 9_240_000_000)
    assert not found.diff.appliances.height


def test_what_is_ordered_later_does_not_end_a_drain_that_is_tried(tmp_path: Path) -> None:
    made = log()
    order = {"scope": "SITE", "entity": NEAR, "region": "eu", "action": "UNDRAIN"}
    made.put("fleet.inventory", "drain:site:near", "Drain", order | {"at_ms": 0, "deadline_ms": 0})
    for at, cut in enumerate(made.cuts[FROM_CUT + 3 :], FROM_CUT + 3):
        ends = cut.offsets | {"fleet.inventory": len(made.values["fleet.inventory"])}
        made.cuts[at] = replace(cut, offsets=ends)
    found = asked(tmp_path / "log", Drained([NEAR], [], FROM), made=made)
    assert moved(found) == {(NEAR, FAR): 6_240_000_000}


def test_back_in_service_it_has_what_it_had(tmp_path: Path) -> None:
    made = log()
    made.keys["fleet.inventory"].insert(0, b"drain:site:near")
    order = {"scope": "SITE", "entity": NEAR, "region": "eu", "action": "DRAIN"}
    record = encode("Drain", order | {"at_ms": 0, "deadline_ms": 0})
    made.values["fleet.inventory"].insert(0, record)
    for at, cut in enumerate(made.cuts):
        ends = cut.offsets | {"fleet.inventory": cut.offsets["fleet.inventory"] + 1}
        made.cuts[at] = replace(cut, offsets=ends)
    found = asked(tmp_path / "log", Drained([NEAR], [], FROM, "UNDRAIN"), made=made)
    assert moved(found) == {(FAR, NEAR): 6_240_000_000}
    assert Drained([NEAR], [], FROM, "UNDRAIN").words == "with near back in service"


def test_a_failed_appliance_reports_in_every_cut_from_then_on(tmp_path: Path) -> None:
    made = log()
    silent = [at for at, key in enumerate(made.keys["appliance.health"]) if key == b"near-a0"]
    for at in silent[15:]:  # from there on nothing is heard of it: a tombstone is refused
        made.values["appliance.health"][at] = None
    with opened(tmp_path / "log", made) as recording:
        (span,) = recording.manifest.cells
        change = Failed([NEAR], [], FROM)
        states, heard = [], []
        for step in fold(recording, span, Ignored(), change):
            row = step.cell.fleet.appliances.get("near-a0")
            states.append(int(step.cell.health.service[row]))
            heard.append(int(step.cell.health.heard_ms[row]))
    assert states == [0] * (FROM_CUT - 1) + [3] * (CUTS - FROM_CUT + 1)
    assert heard == [moment(cut) for cut in range(1, CUTS + 1)]


def test_a_site_that_fails_anyway_is_no_change_from_then_on(tmp_path: Path) -> None:
    made = log(failed=range(FROM_CUT, CUTS + 1))
    found = asked(tmp_path / "log", Failed([NEAR], [], FROM), made=made)
    assert found.diff.equal
    assert not found.harms


def test_without_its_only_link_a_site_has_no_capacity(tmp_path: Path) -> None:
    found = asked(tmp_path / "log", LostLinks(["far-link"], FROM), Failed([NEAR], [], FROM))
    sites = {one["site"]: one for one in found.diff.sites.to_dicts()}
    assert (sites[FAR]["capacity_bps_a"], sites[FAR]["capacity_bps_b"]) == (15 * GBPS, 0)
    assert sites[FAR]["serves_b"] == "NONE"
    assert moved(found) == {(NEAR, None): 9_240_000_000}


def test_a_site_that_is_announced_again_does_not_get_its_link_back(tmp_path: Path) -> None:
    made = log()
    at = next(n for n, key in enumerate(made.keys["fleet.inventory"]) if key == b"site:far")
    for topic in (made.keys, made.values):
        topic["fleet.inventory"].append(topic["fleet.inventory"][at])
    made.cut()
    found = asked(tmp_path / "log", LostLinks(["far-link"], FROM), at=CUTS + 1, made=made)
    sites = {one["site"]: one for one in found.diff.sites.to_dicts()}
    assert sites[FAR]["capacity_bps_b"] == 0


def test_more_demand_spills_over_in_units_of_its_shares(tmp_path: Path) -> None:
    """x1.5: 9, 4.5 and 0.36 Gbit/s at near, 4.36 above its target of 9.5. The nearest alternative
    of 20.3 is the cheaper one (the same path length): all its 0.36 go; of 20.1 then 4 Gbit/s, in
    units of a ten-thousandth of 9: 4,445 of them."""
    found = asked(tmp_path / "log", Scaled(Fraction("1.5")))
    assert found.diff.summary()["demand_bps"] == [9_240_000_000, 13_860_000_000]
    assert moved(found) == {(NEAR, FAR): 360_000_000 + 4_445 * 900_000}
    assert not found.harms


def test_demand_that_finds_no_room_is_an_overload_with_its_time(tmp_path: Path) -> None:
    """x4: 24, 12 and 0.96. Far takes 14.25: 0.96, and of 20.1 what fits in units of 2.4 Mbit/s."""
    found = asked(tmp_path / "log", Scaled(Fraction(4)))
    taken = 960_000_000 + (14_250_000_000 - 960_000_000) // 2_400_000 * 2_400_000
    (worse,) = found.compared.worse.to_dicts()
    assert (worse["site"], worse["kind"], worse["first_ms"]) == (NEAR, "MADE", FROM)
    assert worse["worst_bps"] == 36_960_000_000 - taken - 9_500_000_000
    assert found.compared.worst_bps("b") == {"overflow_bps": worse["worst_bps"], "unserved_bps": 0}
    assert found.diff.overloads.select("site", "overload").rows() == [(NEAR, "MADE")]
    assert found.harms


def test_what_is_over_at_the_end_is_found_in_the_span(tmp_path: Path) -> None:
    made = log()
    for number in range(12):  # a minute later the plays have left the window
        made.health("near-a0")
        made.health("far-a0")
        made.cut(Cause.TICK, 5000)
        assert number < 12
    end = made.cuts[-1].at_ms
    with opened(tmp_path / "log", made) as recording:
        found = what_if(recording, [Scaled(Fraction(4))], "", FROM, end)
    (worse,) = found.compared.worse.to_dicts()
    assert worse["ends"]
    assert found.diff.equal
    assert found.harms


def test_plays_are_scaled_exactly_and_rounded_half_up() -> None:
    sizes = [0, 1, 2, 3, 5, 10**12, 10**12 + 1, -4]
    rows = frames.topic_rows(
        PLAY_EVENTS.name, [frames.play("20.1.1.1", amount=size) for size in sizes]
    )
    cut = Cut(0, 1, 1, "", 0, Cause.TICK, {}, CONFIG.hash(), 1)
    made, _ = Scaled(Fraction("1.5"))(Cell(0, 1), {PLAY_EVENTS.name: rows}, cut, CONFIG)
    scaled = made[PLAY_EVENTS.name].frames["PlayEvent"].get_column("bytes").to_list()
    assert scaled == [0, 2, 3, 5, 8, BYTES_MAX, 10**12 + 1, -4]  # what was refused still is
    made, _ = Scaled(Fraction(999_999, 1_000_000))(
        Cell(0, 1), {PLAY_EVENTS.name: rows}, cut, CONFIG
    )
    assert made[PLAY_EVENTS.name].frames["PlayEvent"].get_column("bytes")[5] == 999_999_000_000
    assert rows.frames["PlayEvent"].get_column("bytes").to_list() == sizes


def test_another_med_ranks_what_the_cell_holds_anew(tmp_path: Path) -> None:
    found = asked(tmp_path / "log", OtherMed(NEAR, PEER, 30, FROM))
    assert moved(found) == {(NEAR, FAR): 240_000_000}
    assert found.diff.prefixes.select("change", "moved_bps").rows() == [("REGROUPED", 240_000_000)]
    assert not found.harms


def test_a_route_that_comes_later_has_the_other_med_as_well(tmp_path: Path) -> None:
    made = log()
    made.route(NEAR, "20.4.0.0/16", hops=1, med=10)
    made.route(FAR, "20.4.0.0/16", hops=1, med=20)
    made.cut()
    with opened(tmp_path / "log", made) as recording:
        (span,) = recording.manifest.cells
        for step in fold(recording, span, Ignored(), OtherMed(NEAR, PEER, 30, FROM)):
            held = session_routes(step.cell.routes, NEAR, PEER)
            assert set(held.med.tolist()) == ({-1, 10} if step.cut.at_ms < FROM else {30})
    assert len(held) == 4
    assert set(session_routes(step.cell.routes, FAR, PEER).med.tolist()) == {-1, 20}
    assert len(session_routes(step.cell.routes, "nobody", PEER)) == 0


def test_another_setting_holds_for_every_cut(tmp_path: Path) -> None:
    found = asked(tmp_path / "log", Settings(["assignment.target=0.5"]))
    sites = {one["site"]: one for one in found.diff.sites.to_dicts()}
    assert sites[NEAR]["target_bps_b"] == 5 * GBPS
    assert {cell.config_hash for cell in found.diff.b.cells} == {
        Settings(["assignment.target=0.5"]).of(CONFIG).hash()
    }
    assert moved(found)[NEAR, FAR] > 4 * GBPS


def test_settings_that_are_not_there_or_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no such setting.*health\.stale_after_ms"):
        Settings(["health.stale=5"])
    with pytest.raises(UsageError, match="no such setting"):
        Settings(["assignment.target"])
    with pytest.raises(UsageError, match=r"assignment\.target: .*less than or equal to 1"):
        Settings(["assignment.target=7"])
    assert Settings(["proximity.missing_med=worst"]).of(CONFIG).proximity.missing_med == "worst"
    assert "publish.moved_share_max" in known_settings()


def test_names_that_are_not_there_are_refused_with_near_ones(tmp_path: Path) -> None:
    with opened(tmp_path / "log") as recording:
        names = names_of(recording, sessions=True)
    assert names.sites == {NEAR, FAR}
    assert names.regions == {"eu"}
    names.check_places([NEAR, "eu"])
    with pytest.raises(UsageError, match="no site or region 'near-a0'"):
        names.check_places(["near-a0"])
    assert names.appliances == {"near-a0", "far-a0"}
    assert names.links == {"far-link"}
    names.check([NEAR, "far-link", "far-a0"])
    with pytest.raises(UsageError, match="did you mean near-a0"):
        names.check(["near-a7"])
    assert names.session(f"{NEAR}:{PEER}") == (NEAR, PEER)
    with pytest.raises(UsageError, match=r"did you mean (near|far):192\.0\.2\.1"):
        names.session("nar:192.0.2.1")


def test_rows_that_are_put_in_leave_those_of_the_log_alone(tmp_path: Path) -> None:
    """The change gets its own copies: the same rows can be folded again."""
    with opened(tmp_path / "log") as recording:
        (span,) = recording.manifest.cells
        seen: list[TopicRows] = []

        def look(cell, rows, cut, config):  # type: ignore[no-untyped-def]
            before = {name: dict(one.frames) for name, one in rows.items()}
            for change in (Failed([NEAR], [], FROM), LostLinks(["far-link"], FROM),
                           OtherMed(NEAR, PEER, 9, FROM), Scaled(Fraction(2))):  # fmt: skip
                change(cell, rows, cut, config)
            for name, one in rows.items():
                assert all(frame is before[name][k] for k, frame in one.frames.items())
                seen.append(one)
            return rows, config

        assert len(list(fold(recording, span, Ignored(), look))) == CUTS
    assert seen


def test_strains_are_compared_cut_by_cut() -> None:
    a, b = Strain(0), Strain(0)
    for number, (was, would) in enumerate([(0, 0), (0, 4), (5, 9), (5, 5), (0, 0)], 1):
        at = (0, number, number * 1000)
        a.cuts.append(at)
        b.cuts.append(at)
        for strain, bps in ((a, was), (b, would)):
            if bps:
                strain.rows.append((*at, "eu", "x", None, bps))
    found = compare(a, b, 6000)
    (worse,) = found.worse.to_dicts()
    assert (worse["kind"], worse["first_ms"], worse["for_ms"]) == ("MADE", 2000, 2000)
    assert (worse["worst_bps"], worse["worst_ms"], worse["was_bps"]) == (9, 3000, 5)
    assert worse["ends"]
    assert found.over_time.get_column("overflow_a").to_list() == [0, 0, 5, 5, 0]
    assert found.over_time.get_column("overflow_b").to_list() == [0, 4, 9, 5, 0]
    assert found.worst_bps("a") == {"overflow_bps": 5, "unserved_bps": 0}


# -- recordings that begin with a snapshot --------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The world from its fifth cut on: inventory, routes and plays stand in the snapshot alone."""
    return explained.write(tmp_path / "begun", {0: log()}, snapshot_cut=5, epochs=False)


def test_what_if_begins_with_the_snapshot_of_a_recording(begun: Path) -> None:
    with Recording(begun) as recording:
        names = names_of(recording, sessions=True)
        found = what_if(
            recording, [Failed([NEAR], [], FROM), LostLinks(["far-link"], FROM)], "", FROM,
            moment(CUTS),
        )  # fmt: skip
    assert names.sites == {NEAR, FAR}
    assert names.session(f"{FAR}:{PEER}") == (FAR, PEER)
    assert moved(found) == {(NEAR, None): 9_240_000_000}


def test_a_view_from_a_snapshot_is_that_of_the_whole_log(begun: Path, tmp_path: Path) -> None:
    with Recording(begun) as late, opened(tmp_path / "whole") as whole:
        views = [watched(one, [moment(CUTS)]).view(moment(CUTS), "") for one in (late, whole)]
    assert views[0].cells == views[1].cells
    assert diff(*views).equal


def test_demand_that_stands_in_the_snapshot_is_not_scaled_and_that_is_said(begun: Path) -> None:
    result = CliRunner().invoke(app, ["whatif", str(begun), "--demand", "x1.5"])
    assert "with demand as it was: only 60 s after its beginning" in result.stderr
    assert result.exit_code == 0
