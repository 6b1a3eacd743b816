"""The simulation can fail: a rule that is broken on purpose is caught by some seed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from pipeline.cut import Cut
from pipeline.follow.table import CellTable
from pipeline.snapshot import chunks
from tests.simulation.loop import SimError
from tests.simulation.run import simulate
from topologies import readback, runner
from topologies.configs import Configs
from topologies.publishing import Publishing
from topologies.readback import Readback
from topologies.runner import CellRunner
from topologies.standing import Standing

SEEDS = 600

#: From what is there to what is there instead.
Mutant = Callable[[Any], Any]


def acted_on_before_it_was_read_back(original: Any) -> Any:
    async def mutant(self: Any, cut: Cut) -> Any:
        await self._configs.ensure_published()
        self.deliver_cut(cut, self.log_next)
        appending = asyncio.create_task(self._publishing.append_cut(cut))
        folded = await self._read_one()
        appending.add_done_callback(lambda _: None)
        return folded

    return mutant


def epoch_before_effects(original: Any) -> Any:
    async def mutant(self: Any, folded: Any, standing: Any, *, reconciled: Any = None) -> None:
        tables, folded.effects.tables = folded.effects.tables, []
        await original(self, folded, standing, reconciled=reconciled)
        written = await self._outputs.publish(folded.cut, tables)
        await standing.wrote(written, folded.cut.mark)

    return mutant


def nothing(original: Any) -> Any:
    async def mutant(self: Any, *args: Any) -> None:
        return None

    return mutant


def new_code_on_the_table_of_old(original: Any) -> Any:
    async def mutant(self: Any, folded: Any) -> None:
        if folded.cut.code_version == runner.CODE_VERSION:  # type: ignore[attr-defined]
            await self._publishing.publish(folded, self._standing)

    return mutant


def zombies_left_alone(original: Any) -> Any:
    return lambda self, cell: self._theirs.clear() or []


def last_record_trusted(original: Any) -> Any:
    async def mutant(
        self: Any, topic: str, partition: int, start: int, end: int
    ) -> AsyncIterator[Any]:
        async for record in self._read(topic, partition, start=start, end=end):
            yield record.key, record.value, readback._cut(record)

    return mutant


def follower_takes_old_cuts(original: Any) -> Any:
    def mutant(self: Any, batch: Any) -> None:
        applied, self.applied = self.applied, None
        original(self, batch)
        self.applied = applied

    return mutant


def one_place_for_all(original: Any) -> Any:
    return lambda term, address, cut: original(term, address, 0)


#: What is broken: where, how, and a seed that has caught it before (only to be quick).
MUTANTS: Mapping[str, tuple[Any, str, Mutant, int]] = {
    "acted on before it was read back": (
        CellRunner, "_append_and_read_back", acted_on_before_it_was_read_back, 32
    ),
    "the Epoch before the effects": (Publishing, "publish", epoch_before_effects, 0),
    "nothing published again": (CellRunner, "_publish_again", nothing, 0),
    "new code on the table of old": (
        CellRunner, "_publish_again", new_code_on_the_table_of_old, 44
    ),
    "nothing put right at a take-over": (CellRunner, "_put_right", nothing, 3),
    "zombies left alone": (Standing, "corrections", zombies_left_alone, 34),
    "the last record trusted": (Readback, "_told", last_record_trusted, 23),
    "a follower takes old cuts": (CellTable, "take", follower_takes_old_cuts, 134),
    "a configuration nobody published": (Configs, "ensure_published", nothing, 0),
    "a snapshot in the place of the last": (chunks, "_key", one_place_for_all, 121),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, mutant, seed = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, mutant(getattr(owner, attribute)))
    for each in (seed, *range(SEEDS)):
        try:
            simulate(each)
        except SimError:
            return
    pytest.fail(f"{name}: not caught by {SEEDS} seeds")
