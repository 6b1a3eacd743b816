"""The laws of a whole cell: L1 repeatable, L3 accounted, L4 table hash, L6 weights, L7 never
empty."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from numpy._core import _multiarray_umath as numpy_core  # type: ignore[attr-defined]

from pipeline.cell import Cell, reconcile
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects
from pipeline.wire.decode import decode
from pipeline.wire.tablehash import MODULUS, record_hash
from schemas.registry import (
    INPUTS,
    LB_WEIGHTS,
    STEERING_GROUPS,
    STEERING_PREFIXES,
    STEERING_SITES,
    TABLES,
)
from tests.cell_world import Followed, digest, fold, make_log, table_bytes

ROOT = Path(__file__).parents[2]
SEEDS = (1, 2)


@cache
def folded(seed: int) -> list[tuple[Cut, Effects]]:
    """The cuts of a log and what each wants published; to be read only."""
    return list(fold(make_log(seed)))


def _dispatched() -> str:
    """What NumPy would use of this CPU beyond its baseline, i.e. what can be taken away from it."""
    features = numpy_core.__cpu_features__
    return " ".join(name for name in numpy_core.__cpu_dispatch__ if features.get(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONHASHSEED": "0", "POLARS_MAX_THREADS": "1"},
        {"PYTHONHASHSEED": "1", "POLARS_MAX_THREADS": "2"},
        {"PYTHONHASHSEED": "77", "POLARS_MAX_THREADS": "7"},
        {"PYTHONHASHSEED": "2", "NPY_DISABLE_CPU_FEATURES": _dispatched()},
    ],
    ids=["one thread", "two threads", "seven threads", "baseline CPU"],
)
def test_l1_the_same_log_gives_the_same_bytes_in_another_process(settings: dict[str, str]) -> None:
    code = "from tests.cell_world import digest; print(digest(1))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == digest(1)


@pytest.mark.parametrize("pieces", [2, 7])
def test_l1_it_does_not_matter_in_how_many_pieces_the_rows_came(pieces: int) -> None:
    assert digest(2, pieces=pieces) == digest(2)


@pytest.mark.parametrize("seed", SEEDS)
def test_l3_every_row_is_folded_or_refused(seed: int) -> None:
    log, rows, kept, refused = make_log(seed), Counter(), Counter(), Counter()
    for _, effects in folded(seed):
        rows.update(effects.epoch.rows)
        kept.update(effects.epoch.folded)
        refused.update({topic: len(them) for topic, them in effects.refused.items()})
    for topic in INPUTS:
        name = topic.name
        assert rows[name] == len(log.values[name]) == kept[name] + refused[name]
        assert refused[name] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_l4_the_deltas_come_to_the_full_table_and_its_hash(seed: int) -> None:
    cell, follower = Cell(0, 1), Followed()
    for _, effects in fold(make_log(seed), cell):
        follower.take(effects)
        live = [pair for held in follower.held.values() for pair in held.items()]
        assert effects.epoch.table_hash == sum(record_hash(*pair) for pair in live) % MODULUS
        assert effects.epoch.prefixes == len(follower.held[STEERING_PREFIXES.name])
        assert effects.epoch.groups == len(follower.held[STEERING_GROUPS.name])
        assert effects.epoch.sites == len(follower.held[LB_WEIGHTS.name])
        assert effects.epoch.loads == len(follower.held[STEERING_SITES.name])
    for topic in TABLES:
        assert dict(cell.published_records(topic.name)) == follower.held[topic.name]
        assert not reconcile(cell, topic.name, follower.held[topic.name])


@pytest.mark.parametrize("seed", SEEDS)
def test_no_record_is_published_that_says_what_was_said(seed: int) -> None:
    held: dict[tuple[str, bytes], bytes | None] = {}
    for _, effects in folded(seed):
        for topic, key, value in table_bytes(effects):
            assert held.get((topic, key)) != value
            held[topic, key] = value


@pytest.mark.parametrize("seed", SEEDS)
def test_l6_published_weights_are_not_negative_and_sum_to_ten_thousand(seed: int) -> None:
    for _, effects in folded(seed):
        for topic, _, value in table_bytes(effects):
            if topic == LB_WEIGHTS.name and value is not None:
                weights = [one["weight"] for one in decode(value)[1]["appliances"]]
                assert min(weights) >= 0
                assert sum(weights) == 10_000


@pytest.mark.parametrize("seed", SEEDS)
def test_l7_no_table_is_emptied(seed: int) -> None:
    follower, filled = Followed(), set()
    for _, effects in folded(seed):
        follower.take(effects)
        filled |= {topic for topic, held in follower.held.items() if held}
        assert all(follower.held[topic] for topic in filled)
    assert filled == {topic.name for topic in TABLES}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_prefix_names_a_published_group_whose_sites_have_weights(seed: int) -> None:
    follower = Followed()
    for _, effects in folded(seed):
        follower.take(effects)
        groups, weights = follower.held[STEERING_GROUPS.name], follower.held[LB_WEIGHTS.name]
        for key, value in follower.held[STEERING_PREFIXES.name].items():
            record = decode(value)[1]
            assert record["prefix"] + record["region"].encode() == key
            assert record["group"] + record["region"].encode() in groups
        for value in groups.values():
            record = decode(value)[1]
            for klass in range(3):
                total = sum(site["shares"][klass] for site in record["sites"])
                assert total in (0, 10_000)
            for site in record["sites"]:
                assert site["site"].encode() in weights or not any(site["shares"])


@pytest.mark.parametrize("seed", SEEDS)
def test_what_names_something_is_sent_after_it_and_removed_before_it(seed: int) -> None:
    order = [
        (LB_WEIGHTS.name, False),
        (STEERING_GROUPS.name, False),
        (STEERING_PREFIXES.name, False),
        (STEERING_PREFIXES.name, True),
        (STEERING_GROUPS.name, True),
        (STEERING_SITES.name, False),
        (STEERING_SITES.name, True),
    ]
    for _, effects in folded(seed):
        kinds = [
            (topic, value is None)
            for topic, _, value in table_bytes(effects)
            if topic != LB_WEIGHTS.name or value is not None
        ]
        stages = [order.index(kind) for kind, _ in groupby(kinds)]
        assert stages == sorted(set(stages))


@pytest.mark.parametrize("seed", SEEDS)
def test_urgent_cuts_leave_prefixes_and_groups_where_they_are(seed: int) -> None:
    urgent = [pair for pair in folded(seed) if pair[0].cause is Cause.URGENT]
    assert urgent
    for _, effects in urgent:
        for topic, _, value in table_bytes(effects):
            assert topic != STEERING_PREFIXES.name
            assert value is not None


def test_l10_under_constant_input_the_table_stops_changing() -> None:
    log = make_log(1, bad=False)
    for _ in range(120):
        for appliance in [f"eu-s{s}-a{a}" for s in range(5) for a in range(3)]:
            log.health(appliance)
        log.cut(after_ms=5000)
    quiet = [table_bytes(effects) for _, effects in fold(log)][-30:]
    assert not any(quiet)


def test_a_cell_that_takes_over_rights_the_topics() -> None:
    cell, follower, stale = Cell(0, 1), Followed(), Followed()
    for cut, effects in fold(make_log(1), cell):
        follower.take(effects)
        if cut.number < 20:
            stale.take(effects)
    for topic in TABLES:
        held = dict(stale.held[topic.name])
        for record in reconcile(cell, topic.name, held):
            if record.value is None:
                del held[record.key]
            else:
                held[record.key] = record.value
        assert held == follower.held[topic.name]
    assert not reconcile(Cell(0, 1), LB_WEIGHTS.name, stale.held[LB_WEIGHTS.name])
