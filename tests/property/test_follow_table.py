"""L4 and L5 for followers: whatever order, repetition and staleness the log shows, a follower holds
what its last closed cut published, or what an earlier one did, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.follow.table import SteeringTable
from tests.follow_world import Change, World

TOPICS = ("lb.weights", "steering.groups", "steering.prefixes")
KEYS = [bytes(16) + bytes([120]) + name for name in (b"eu", b"us", b"as")]


def change() -> st.SearchStrategy[Change]:
    values = st.one_of(st.none(), st.binary(min_size=1, max_size=3))
    return st.tuples(st.sampled_from(TOPICS), st.sampled_from(KEYS), values)


cuts = st.lists(st.lists(change(), max_size=6), min_size=1, max_size=8)


def held(table: SteeringTable) -> dict[tuple[str, bytes], bytes]:
    cell = table.cell(0)
    return {(topic, key): value for topic in TOPICS for key, value in cell.records[topic].items()}


@given(cuts)
def test_l4_the_hash_kept_up_step_by_step_is_the_hash_of_what_is_held(
    history: list[list[Change]],
) -> None:
    world = World(SteeringTable())
    for changes in history:
        world.publish(changes)
        assert held(world.table) == world.live
        assert world.table.verify() == []


@given(cuts, st.data())
def test_l5_with_zombies_repetitions_and_late_reading_a_follower_holds_whole_cuts_that_only_rise(
    history: list[list[Change]], data: st.DataObject
) -> None:
    world = World(SteeringTable())
    states: dict[int, dict[tuple[str, bytes], bytes]] = {0: {}}
    sent: list[tuple[int, list[Change]]] = []
    seen = 0
    for number, changes in enumerate(history, 1):
        last_wins = {(topic, key): (topic, key, value) for topic, key, value in changes}
        world.send(changes, cut=number, term=2)
        if sent and data.draw(st.booleans(), label="zombie"):
            late, stale = data.draw(st.sampled_from(sent))
            world.send(stale, cut=late, term=1)
        world.remember(list(last_wins.values()))
        world.cut = number
        world.table.close(world.epoch())
        states[number] = dict(world.live)
        sent.append((number, list(last_wins.values())))
        if data.draw(st.booleans(), label="reads on"):
            world.reach()
        world.table.advance()
        cell = world.table.cell(0)
        assert cell.cut >= seen
        seen = cell.cut
        assert held(world.table) == states[seen]
        assert world.table.verify() == []
    world.reach()
    world.table.advance()
    assert held(world.table) == states[len(history)]


@given(cuts)
def test_l4_many_cuts_in_one_step_end_where_one_by_one_ends(history: list[list[Change]]) -> None:
    slow, quick = World(SteeringTable()), World(SteeringTable())
    for changes in history:
        slow.publish(changes)
        quick.cut += 1
        quick.send(changes, quick.cut)
        quick.remember(changes)
        quick.table.close(quick.epoch())
    quick.reach()
    quick.table.advance()
    assert held(quick.table) == held(slow.table)
    assert quick.table.cell(0).table_hash == slow.table.cell(0).table_hash
    assert quick.table.cell(0).shapes == slow.table.cell(0).shapes
