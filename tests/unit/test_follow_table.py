from pipeline.follow.table import Batch, SteeringTable
from pipeline.wire.headers import pack_cut
from schemas.registry import LB_WEIGHTS, STEERING_EPOCHS, STEERING_PREFIXES
from tests.follow_world import World, choice, group, prefix, weights

FIRST = [
    weights("eu", "ams", a1=6000, a2=4000),
    group("eu", 1, [choice("ams", 10000, 10000, 10000)]),
    prefix("eu", "203.0.113.0/24", 1),
]


def held(table: SteeringTable, partition: int = 0) -> dict[tuple[str, bytes], bytes]:
    cell = table.cell(partition)
    return {
        (topic, key): value for topic in table.topics for key, value in cell.records[topic].items()
    }


def test_a_closed_cut_is_held_exactly_and_its_hash_agrees() -> None:
    world = World(SteeringTable())
    world.publish(FIRST)
    assert held(world.table) == world.live
    assert world.table.cell(0).cut == 1
    assert world.table.verify() == []


def test_nothing_shows_before_the_epoch_says_so() -> None:
    world = World(SteeringTable())
    world.send(FIRST, cut=1)
    world.reach()
    assert world.table.advance() == []
    assert held(world.table) == {}


def test_nothing_shows_before_every_table_topic_is_read_up_to_the_epochs_ends() -> None:
    world = World(SteeringTable())
    world.cut = 1
    world.send(FIRST, cut=1)
    world.remember(FIRST)
    world.table.close(world.epoch())
    world.table.reached(LB_WEIGHTS.name, 0, 1)
    world.table.reached(STEERING_PREFIXES.name, 0, 1)
    assert world.table.advance() == []
    world.reach()
    (step,) = world.table.advance()
    assert (step.previous, step.cut, sorted(step.changed)) == (0, 1, sorted(world.table.topics))


def test_an_epoch_without_outputs_waits_for_the_one_before_it() -> None:
    world = World(SteeringTable())
    world.cut = 1
    world.send(FIRST, cut=1)
    world.remember(FIRST)
    world.table.close(world.epoch())
    world.table.close({**world.epoch(), "cut": 2, "outputs": []})
    assert world.table.advance() == []
    world.reach()
    (step,) = world.table.advance()
    assert (step.previous, step.cut) == (0, 2)
    assert world.table.verify() == []


def test_records_of_a_cut_that_is_not_closed_stay_back_while_the_cut_before_is_applied() -> None:
    world = World(SteeringTable())
    world.send(FIRST, cut=1)
    world.remember(FIRST)
    world.cut = 1
    epoch = world.epoch()
    world.send([weights("eu", "ams", a1=10000)], cut=2)
    world.table.close(epoch)
    world.reach()
    world.table.advance()
    assert held(world.table) == world.live
    world.cut = 2
    world.remember([weights("eu", "ams", a1=10000)])
    world.table.close(world.epoch())
    world.reach()
    world.table.advance()
    assert held(world.table) == world.live
    assert world.table.verify() == []


def test_l5_a_zombies_late_record_and_late_epoch_change_nothing() -> None:
    world = World(SteeringTable())
    world.publish(FIRST)
    world.publish([weights("eu", "ams", a1=10000), (STEERING_PREFIXES.name, FIRST[2][1], None)])
    world.send(FIRST, cut=1, term=1)
    world.table.close({**world.epoch(), "cut": 1})
    world.publish([])
    assert held(world.table) == world.live
    assert world.table.cell(0).cut == 3
    assert world.table.cell(0).dropped["old_cut"] == 3
    assert world.table.verify() == []


def test_l5_a_record_written_over_at_sight_is_what_a_new_follower_ends_with() -> None:
    """The log as a zombie leaves it: newer, stale, newer again."""
    world = World(SteeringTable())
    newer, stale = weights("eu", "ams", a1=10000), weights("eu", "ams", a2=10000)
    world.send([newer], cut=9, term=2)
    world.send([stale], cut=5, term=1)
    world.send([newer], cut=9, term=2)
    world.remember([newer])
    world.cut = 9
    world.table.close(world.epoch())
    world.reach()
    world.table.advance()
    assert held(world.table) == world.live
    assert world.table.verify() == []


def test_a_tombstone_takes_the_record_and_its_hash_away() -> None:
    world = World(SteeringTable())
    world.publish(FIRST)
    world.publish([(topic, key, None) for topic, key, _ in FIRST])
    assert held(world.table) == {}
    assert world.table.cell(0).table_hash == 0
    assert not world.table.cell(0).shapes
    assert world.table.verify() == []


def test_what_stands_behind_the_epochs_end_is_no_word_of_its_cut() -> None:
    """A zombie's record of the cut before, read before the Epoch that it is too late for."""
    world = World(SteeringTable())
    world.publish(FIRST)
    topic, key, _ = FIRST[0]
    world.send([weights("eu", "ams", a1=10000)], cut=world.cut + 1)
    world.remember([weights("eu", "ams", a1=10000)])
    ends = world.ends.copy()
    world.send([(topic, key, None), weights("eu", "fra", late=10000)], cut=world.cut + 1, term=0)
    world.cut += 1
    arrived, world.ends = world.ends, ends
    closing = world.epoch()
    for name, end in arrived.items():
        world.table.reached(name, 0, end)
    world.table.close(closing)
    assert world.table.advance()
    assert world.table.verify() == []
    assert world.table.cell(0).dropped["old_cut"] == 2


def test_records_without_the_header_or_with_another_partitions_are_counted_and_dropped() -> None:
    world = World(SteeringTable())
    topic, key, value = FIRST[0]
    foreign, short = pack_cut(1, 1, 1), b"?"
    world.table.take(Batch(topic, 0, [key] * 3, [value] * 3, [None, short, foreign], range(3)))
    world.publish([])
    assert held(world.table) == {}
    assert world.table.cell(0).dropped == {"no_cut": 2, "other_partition": 1, "old_cut": 0}


def test_a_table_that_differs_from_its_epoch_says_so() -> None:
    world = World(SteeringTable())
    world.live[LB_WEIGHTS.name, b"lost"] = b"on the way"
    world.publish(FIRST)
    (mismatch,) = world.table.verify()
    assert (mismatch.partition, mismatch.cut) == (0, 1)
    assert mismatch.expected != mismatch.found


def test_each_step_says_whether_its_table_is_what_its_epoch_says() -> None:
    world = World(SteeringTable())
    world.live[LB_WEIGHTS.name, b"lost"] = b"on the way"
    (wrong,) = world.publish(FIRST)
    assert wrong.mismatch == world.table.cell(0).mismatch() is not None
    del world.live[LB_WEIGHTS.name, b"lost"]
    (right,) = world.publish([])
    assert right.mismatch is None


def test_partitions_move_independently() -> None:
    table = SteeringTable()
    one, two = World(table, 0), World(table, 1)
    one.publish(FIRST)
    two.send([weights("us", "nyc", b1=10000)], cut=1)
    two.reach()
    assert table.advance() == []
    assert (table.cell(0).cut, table.cell(1).cut) == (1, 0)
    assert [key for _, key, _ in table.items(LB_WEIGHTS.name)] == [b"ams"]


def test_a_follower_of_some_topics_is_not_held_up_by_the_others() -> None:
    table = SteeringTable([LB_WEIGHTS.name])
    world = World(table)
    world.ends[STEERING_EPOCHS.name] = 5
    world.ends[STEERING_PREFIXES.name] = 7
    world.cut = 1
    world.send(FIRST[:1], cut=1)
    table.close(world.epoch())
    table.reached(LB_WEIGHTS.name, 0, 1)
    assert [step.cut for step in table.advance()] == [1]
    assert table.verify() == []


def test_an_epoch_that_is_there_twice_with_other_ends_is_one_step() -> None:
    world = World(SteeringTable())
    world.cut = 1
    world.send(FIRST, cut=1)
    world.remember(FIRST)
    world.table.close(world.epoch())
    later = [{**one, "end_offset": one["end_offset"] + 1} for one in world.epoch()["outputs"]]
    world.table.close({**world.epoch(), "outputs": later})
    world.reach()
    assert [step.cut for step in world.table.advance()] == [1]
    for one in later:
        world.table.reached(one["topic"], 0, one["end_offset"])
    assert world.table.advance() == []
