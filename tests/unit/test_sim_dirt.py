"""Bad input of every kind comes to its one defined outcome, and the account stays whole (L3)."""

import numpy as np
import pytest

from pipeline.reasons import Noted, Refusal
from pipeline.sim.dirt import KINDS, Dirt
from tests.sim_plane import START_MS, Plane, opening, small_world


@pytest.fixture(scope="module")
def settled() -> tuple[Plane, Dirt]:
    """A plane that has folded a world's first seconds, and dirt that has seen them."""
    world = small_world()
    plane = Plane(area.id for area in world.ground.regions)
    dirt = Dirt(np.random.Generator(np.random.PCG64(1)), 0.5)
    begin = opening(world)
    dirt.learn(begin)
    plane.fold(begin, START_MS)
    for second in range(1, 12):
        batches = world.tick(START_MS + second * 1000)
        dirt.learn(batches)
        plane.fold(batches, START_MS + second * 1000)
    return plane, dirt


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_comes_to_its_outcome(kind: str, settled: tuple[Plane, Dirt]) -> None:
    plane, dirt = settled
    bad = dirt.make(kind)
    assert bad is not None
    at = plane.place[bad.region]
    if bad.astray:
        at = next(other for other in plane.cells if other != at)
    before = plane.refused.copy(), plane.notes.copy(), plane.folded.copy()
    plane.fold_at({(at, bad.topic): [(bad.key, bad.value)]}, START_MS + 12_000)
    refused, notes, folded = plane.refused - before[0], plane.notes - before[1], plane.folded
    outcome = KINDS[kind].outcome
    if isinstance(outcome, Refusal):
        assert dict(refused) == {(bad.topic, str(outcome)): 1}
        assert folded == before[2]
    else:
        assert not refused and folded[bad.topic] == before[2][bad.topic] + 1
        assert dict(notes) == ({str(outcome): 1} if isinstance(outcome, Noted) else {})


def test_dirt_goes_beside_the_good_records_in_its_share_and_is_counted_by_kind() -> None:
    world = small_world()
    dirt = Dirt(np.random.Generator(np.random.PCG64(1)), 0.05)
    dirt.learn(opening(world))
    good = bad = 0
    for second in range(1, 11):
        batches = world.tick(START_MS + second * 1000)
        good += sum(map(len, batches))
        bad += len(dirt.beside(batches))
    assert 0.03 * good < bad < 0.07 * good
    assert dirt.made.total() == bad
    assert set(dirt.made) == set(KINDS)


def test_dirt_has_keys_of_its_own_so_that_compaction_takes_no_good_record() -> None:
    world = small_world()
    dirt = Dirt(np.random.Generator(np.random.PCG64(1)), 0.5)
    begin = opening(world)
    keys = {key for rows in begin for key in rows.keys}
    made = dirt.beside(begin)
    assert made and not keys & {each.key for each in made}
