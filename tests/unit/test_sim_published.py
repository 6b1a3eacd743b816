"""The closed loop: viewers go where the published table says, and only those that must move do."""

from collections import defaultdict

import numpy as np
import pytest

from pipeline.effects import Effects, Record
from pipeline.follow.table import Batch, SteeringTable
from pipeline.sim.published import Published
from pipeline.sim.world import World
from pipeline.wire.headers import pack_cut
from tests.sim_plane import START_MS, Plane, opening, records, small_world


class Loop:
    """A world, the plane that folds it, and a follower's table."""

    def __init__(self, world: World) -> None:
        regions = [area.id for area in world.ground.regions]
        self.world, self.plane, self.table = world, Plane(regions), SteeringTable()
        self.steering = Published(self.table, world.plant.names, regions)
        self._cut = 0
        self.fold(opening(world), START_MS)

    def fold(self, batches: list, now_ms: int) -> None:
        self._cut += 1
        for at, effects in self.plane.fold(batches, now_ms).items():
            self._hand_over(at, effects)
        self.steering.stepped()

    def _hand_over(self, at: int, effects: Effects) -> None:
        sent: dict[str, list[Record]] = defaultdict(list)
        for effect in effects.tables:
            sent[effect.topic] += [effect] if isinstance(effect, Record) else effect.records()
        for topic, each in sent.items():
            header = pack_cut(at, self._cut, 1)
            self.table.take(
                Batch(topic, at, [one.key for one in each], [one.value for one in each],
                      [header] * len(each), range(len(each)))
            )  # fmt: skip
        self.table.close({"partition": at, "cut": self._cut, "table_hash": "", "outputs": []})
        self.table.advance()

    def places(self) -> np.ndarray:
        """Where every viewer would be sent now."""
        seats = self.world.viewers
        return self.steering(
            seats.session, seats.region, seats.prefix, seats.hi, seats.lo, seats.traffic_class
        )


@pytest.fixture
def loop() -> Loop:
    loop = Loop(small_world())
    for second in range(1, 4):
        now_ms = START_MS + second * 1000
        loop.fold(loop.world.tick(now_ms), now_ms)
    return loop


def test_the_table_has_a_place_for_nearly_every_viewer(loop: Loop) -> None:
    places = loop.places()
    assert (places >= 0).mean() > 0.98
    region = loop.world.ground.sites.region[loop.world.plant.site[places[places >= 0]]]
    assert (region == loop.world.viewers.region[places >= 0]).all()


def test_a_failure_moves_the_viewers_of_what_failed_and_few_others(loop: Loop) -> None:
    before = loop.places()
    failed = int(np.bincount(before[before >= 0]).argmax())
    site = loop.world.plant.site[failed]
    reports = loop.world.command("FAIL", loop.world.plant.names[failed])
    loop.fold(reports, loop.world.now_ms + 50)
    after = loop.places()
    assert not (after == failed).any()
    moved = before != after
    others = loop.world.plant.site[before] != site
    assert moved[before == failed].all()
    assert moved[(before != failed) & ~others].mean() < 0.05
    assert moved[others].mean() < 0.05


def test_viewers_that_follow_leave_a_draining_appliance(loop: Loop) -> None:
    world = loop.world
    world.follow(loop.steering)
    crowd = world.viewers.counts(len(world.plant.names))
    drained = int(crowd.argmax())
    loop.fold(world.command("DRAIN", world.plant.names[drained]), world.now_ms)
    events = []
    for _ in range(40):
        now_ms = world.now_ms + 1000
        batches = world.tick(now_ms)
        events += records(batches, "play.events")
        loop.fold(batches, now_ms)
    starts = {each["appliance"] for each in events if each["event"] == "START"}
    assert world.plant.names[drained] not in starts
    assert world.viewers.counts(len(world.plant.names))[drained] < crowd[drained] / 2
