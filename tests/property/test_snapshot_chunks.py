"""A snapshot is whole or the one before is used, wherever its writing ended and whoever else writes
into the same table."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cut import Cause, Cut
from pipeline.errors import SnapshotError
from pipeline.snapshot import chunks
from pipeline.snapshot.chunks import Chunks, Commit, Plan, decoded_commit, is_commit, restore
from pipeline.state import codec
from pipeline.state.codec import Packed, pack

Table = dict[bytes, bytes]

#: What a cell holds at successive snapshots: arrays that change in place, grow and shrink.
CELLS = st.lists(
    st.dictionaries(
        st.sampled_from(["routes", "health", "region/0/table"]),
        st.lists(st.integers(0, 3), max_size=40),
        min_size=1,
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "PIECE_BYTES", 64)


def sections(cell: Mapping[str, list[int]]) -> dict[str, Packed]:
    return {
        name: pack(name, {"rows": np.array(rows, np.int64), "names": ["a"] * len(rows)})
        for name, rows in cell.items()
    }


def whole(cell: Mapping[str, list[int]]) -> dict[str, bytes]:
    return {name: bytes(section) for name, section in sections(cell).items()}


def cut(number: int, term: int) -> Cut:
    return Cut(0, number, term, "w", 1000 * number, Cause.TICK, {"play.events": number}, "c", 1)


def records(plan: Plan) -> list[tuple[bytes, bytes | None]]:
    gone: list[tuple[bytes, bytes | None]] = [(key, None) for key in plan.obsolete]
    return [*plan.chunks, *plan.records, *gone]


def put(table: Table, written: list[tuple[bytes, bytes | None]]) -> None:
    for key, value in written:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def write(
    table: Table, writer: Chunks, cell: Mapping[str, list[int]], number: int, term: int = 1
) -> Plan:
    plan = writer.plan(sections(cell), cut(number, term), 7 * number, {"lb.weights": number})
    put(table, records(plan))
    writer.written(plan)
    return plan


@given(CELLS)
def test_the_newest_snapshot_comes_back_with_its_cut(cells: list) -> None:
    table, writer = Table(), Chunks(1, (), ())
    for number, cell in enumerate(cells, 1):
        write(table, writer, cell, number)
        found, wrong = restore(table)
        assert found is not None
        assert not wrong
        assert found.sections == whole(cell)
        assert (found.commit.cut, found.commit.log_next) == (cut(number, 1), 7 * number)
        assert found.commit.verified == {"lb.weights": number}


@given(CELLS)
def test_only_what_changed_is_written_and_nothing_stays_behind(cells: list) -> None:
    table, writer, plans = Table(), Chunks(1, (), ()), []
    for number, cell in enumerate(cells, 1):
        plans.append(write(table, writer, cell, number))
        assert set(table) <= plans[-1].commit.keys | (plans[-2].commit.keys if plans[1:] else set())
    for (before, after), (former, plan) in zip(pairwise(cells), pairwise(plans), strict=True):
        if before == after:
            assert plan.chunks == []
        for key, _ in plan.chunks:
            assert key not in former.commit.keys  # the snapshot before stays whole meanwhile


@settings(max_examples=40)
@given(CELLS, st.data())
def test_a_crash_between_any_two_records_leaves_this_snapshot_or_the_one_before(
    cells: list, data: st.DataObject
) -> None:
    table, writer = Table(), Chunks(1, (), ())
    for number, cell in enumerate(cells[:-1], 1):
        write(table, writer, cell, number)
    plan = writer.plan(sections(cells[-1]), cut(len(cells), 1), 0, {})
    written = records(plan)
    committed = len(plan.chunks) + 1
    stop = data.draw(st.integers(0, len(written)))
    put(table, written[:stop])
    found, _ = restore(table)
    if stop >= committed:
        assert found is not None
        assert found.sections == whole(cells[-1])
    elif len(cells) > 1:
        assert found is not None
        assert found.sections == whole(cells[-2])
    else:
        assert found is None


@settings(max_examples=40)
@given(CELLS, CELLS, st.data())
def test_a_zombie_spoils_nothing_of_its_successors(
    theirs: list, ours: list, data: st.DataObject
) -> None:
    """The frozen writer's chunks, commit and removals come at any moment, in their order."""
    table, zombie = Table(), Chunks(1, (), ())
    write(table, zombie, theirs[0], 1)
    late = [
        record
        for number, cell in enumerate(theirs[1:], 2)
        for record in _planned(zombie, cell, number)
    ]
    first, _ = restore(table)
    assert first is not None
    successor = Chunks(0, table, first.commit.keys).under(2)
    for number, cell in enumerate(ours, 10):
        plan = successor.plan(sections(cell), cut(number, 2), 0, {})
        for record in records(plan):
            if late and data.draw(st.booleans()):
                put(table, [late.pop(0)])
            put(table, [record])
        successor.written(plan)
        found, _ = restore(table)
        assert found is not None
        assert found.sections == whole(cell)
    put(table, late)
    found, _ = restore(table)
    assert found is not None
    assert found.sections == whole(ours[-1])


def _planned(writer: Chunks, cell: Mapping[str, list[int]], number: int) -> list:
    plan = writer.plan(sections(cell), cut(number, 1), 0, {})
    writer.written(plan)
    return records(plan)


@given(CELLS)
def test_who_takes_over_removes_what_others_left(cells: list) -> None:
    table, writer = Table(), Chunks(1, (), ())
    for number, cell in enumerate(cells, 1):
        write(table, writer, cell, number)
    found, _ = restore(table)
    assert found is not None
    successor = Chunks(0, table, found.commit.keys).under(2)
    for number in (10, 11):
        write(table, successor, cells[0], number, term=2)
    assert {key[:8] for key in table} == {b"00000002"}


def test_what_is_missing_or_another_is_named_and_not_used() -> None:
    table, writer = Table(), Chunks(1, (), ())
    write(table, writer, {"routes": [1] * 40}, 1)
    write(table, writer, {"routes": [2] * 40}, 2)
    lost = next(key for key in sorted(table) if b"/routes/" in key and not is_commit(key))
    for damaged, why in ((None, "is not there"), (b"other", "is of another one")):
        left = {key: value for key, value in table.items() if key != lost}
        if damaged is not None:
            left[lost] = damaged
        found, wrong = restore(left)
        newest = found is not None and found.commit.cut.number == 2
        assert newest or any(why in str(error) for error in wrong)
    torn = {key: value for key, value in table.items() if is_commit(key)}
    found, wrong = restore(torn)
    assert found is None
    assert len(wrong) == 2
    assert "torn: of the snapshot at cut 2" in str(wrong[0])


def test_a_damaged_commit_record_is_told() -> None:
    table, writer = Table(), Chunks(1, (), ())
    plan = write(table, writer, {"routes": [1]}, 1)
    ((key, value),) = plan.records
    table[key] = value[:-1]
    found, wrong = restore(table)
    assert found is None
    assert len(wrong) == 1
    with pytest.raises(SnapshotError):
        decoded_commit(b"PK\x03\x04")


@settings(max_examples=30)
@given(CELLS, st.integers(0, 400))
def test_what_was_written_ahead_is_taken_only_where_it_is_still_so(cells: list, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "COPY_BYTES", most)
        table, writer, held, commits = Table(), Chunks(1, (), ()), None, list[Commit]()
        for number, cell in enumerate([*cells, *[cells[-1]] * 60], 1):
            plan = write(table, writer, cell, number)
            assert plan.commit is not None or plan.size_bytes <= max(most, codec.PIECE_BYTES)
            if plan.commit is not None:
                held = whole(cell)
                commits.append(plan.commit)
            found, wrong = restore(table)
            assert not wrong
            assert (None if found is None else found.sections) == held
        assert held == whole(cells[-1])
        assert set(table) <= set[bytes]().union(*(one.keys for one in commits[-2:]))


@given(CELLS, st.data())
def test_what_was_written_ahead_of_a_crash_is_removed(cells: list, data: st.DataObject) -> None:
    """By who takes over, and by a writer whose snapshot did not need it in the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "COPY_BYTES", 100)
        table, writer = Table(), Chunks(1, (), ())
        for number, cell in enumerate(cells, 1):
            plan = writer.plan(sections(cell), cut(number, 1), 0, {})
            written = records(plan)
            put(table, written[: data.draw(st.integers(0, len(written)))])
            if data.draw(st.booleans()):
                found, _ = restore(table)
                writer = Chunks(0, table, found.commit.keys if found else ()).under(number + 1)
            else:
                put(table, written)
                writer.written(plan)
    last = [write(table, writer, cells[0], number).commit for number in (20, 21)]
    assert set(table) == set[bytes]().union(*(one.keys for one in last if one is not None))


def test_a_cell_that_always_changes_is_written_down_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With no chunk written ahead twice."""
    monkeypatch.setattr(chunks, "COPY_BYTES", 100)
    table, writer, ahead = Table(), Chunks(1, (), ()), list[bytes]()
    for number in range(60):
        plan = write(table, writer, {"routes": [number] * 100}, number)
        if plan.commit is not None:
            break
        ahead += [key.rpartition(b"/")[0] for key, _ in plan.chunks]
    assert plan.commit is not None
    assert len(set(ahead)) == len(ahead) > 5


def test_a_large_cell_that_stays_as_it_is_is_written_some_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "COPY_BYTES", 500)
    table, writer, plans = Table(), Chunks(1, (), ()), list[Plan]()
    while not plans or plans[-1].commit is None:
        plans.append(write(table, writer, {"routes": list(range(200))}, len(plans) + 1))
    assert len(plans) >= 3
    assert all(plan.size_bytes <= 500 for plan in plans)
