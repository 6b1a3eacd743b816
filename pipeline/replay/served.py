"""What was answered, over time: the part of each cell's tables that concerns one address.

Idea: a follower that read up to a cut answers from what stands published then. So whenever a cut
publishes anything, the records around the address are asked of the cell's ledger, and where they
differ from those before, that is an entry. Entries of all cells, put in order of time, give the
answer of each moment by the follower's own `who` (regions of several cells may hold a prefix). The
answer changes where its sites, their shares or the appliances in use do; weights that drift and
groups that get another name move nobody. How sites stand (steering.sites) moves nobody either and
changes often, so it makes no entry: the last one has it as it was in the end."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.follow.lookup import Answer, group_id_of, group_of, who
from pipeline.follow.table import Batch, SteeringTable
from pipeline.replay.facts import loads_of
from pipeline.replay.fold import Step
from pipeline.replay.provenance import covering
from pipeline.replay.sitefacts import SiteLoad
from pipeline.wire.address import PREFIX_SIZE
from pipeline.wire.headers import pack_cut
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, STEERING_SITES

#: Table topic -> key -> value.
Held = dict[str, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a cell held around the address from this cut on; the load of the sites named there, at
    this cut and at the one before. `begins`: that is where the fold set out from, it may have been
    so for long."""

    cut: Cut
    held: Held
    loads: Mapping[str, SiteLoad]
    loads_before: Mapping[str, SiteLoad]
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """The answer became another one, or began or ended."""

    entry: Entry
    before: Answer | None
    after: Answer | None


class Timeline:
    """Collects the entries of one cell."""

    def __init__(self, address: bytes) -> None:
        self._prefixes = covering(address)
        self.entries: list[Entry] = []
        self._loads: dict[str, SiteLoad] = {}

    def begin(self, cell: Cell, first: Cut, config: SteeringConfig) -> None:
        """What a snapshot held; `first` is the first cut behind it."""
        held = _held(cell, self._prefixes)
        self._loads = loads_of(cell, _sites(held), config)
        cut = replace(first, number=first.number - 1, at_ms=cell.now_ms)
        self.entries.append(Entry(cut, held, self._loads, self._loads, begins=True))

    def take(self, step: Step) -> None:
        """The next cut that counts."""
        before, held = self._loads, self.entries[-1].held if self.entries else {}
        fresh = bool(step.effects.tables) or not self.entries
        if fresh:
            held = _held(step.cell, self._prefixes)
        self._loads = loads_of(step.cell, _sites(held), step.config)
        if not self.entries or (fresh and _steers(held) != _steers(self.entries[-1].held)):
            self.entries.append(Entry(step.cut, held, self._loads, before))
        elif fresh:
            self.entries[-1] = replace(self.entries[-1], held=held)


def _steers(held: Held) -> Held:
    return {topic: records for topic, records in held.items() if topic != STEERING_SITES.name}


def _held(cell: Cell, prefixes: list[bytes]) -> Held:
    ledger, names = cell.ledger, cell.fleet.sites.names
    held: Held = {}

    def ask(topic: str, keys: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
        found = ledger.current(topic, keys, names)
        held[topic] = {key: value for key, value in found.items() if value is not None}
        return iter(held[topic].items())

    regions = [region.encode() for region in ledger.prefixes]
    around = [prefix + region for prefix in prefixes for region in regions]
    groups = [
        group_id_of(value) + key[PREFIX_SIZE:] for key, value in ask(STEERING_PREFIXES.name, around)
    ]
    sites = {
        choice.site.encode()
        for _, value in ask(STEERING_GROUPS.name, sorted({*groups}))
        for choice in group_of(value).sites
    }
    ask(LB_WEIGHTS.name, sorted(sites))
    ask(STEERING_SITES.name, sorted(sites))
    return held


def _sites(held: Held) -> list[str]:
    return [key.decode() for key in held.get(LB_WEIGHTS.name, ())]


def table_of(entries: Iterable[Entry]) -> SteeringTable:
    """What a follower held when these were each cell's newest."""
    table = SteeringTable()
    for entry in entries:
        cut = entry.cut
        header = pack_cut(cut.partition, cut.number, cut.term)
        for topic, records in entry.held.items():
            keys, values = [*records], [*records.values()]
            count = len(keys)
            table.take(Batch(topic, cut.partition, keys, values, [header] * count, range(count)))
        fields = {"partition": cut.partition, "cut": cut.number, "table_hash": "", "outputs": []}
        table.close(fields)
    table.advance()
    return table


def changes(
    timelines: Iterable[list[Entry]], address: bytes, traffic_class: str, region: str | None
) -> tuple[Answer | None, list[Change]]:
    """The answer in the end, and how it came to be: every change, oldest first."""
    entries = [entry for timeline in timelines for entry in timeline]
    entries.sort(key=lambda one: (one.cut.at_ms, one.cut.partition, one.cut.number))
    newest: dict[int, Entry] = {}
    answer, found = None, list[Change]()
    for entry in entries:
        newest[entry.cut.partition] = entry
        now = who(table_of(newest.values()), address, traffic_class, region)
        if _served(now) != _served(answer) and not entry.begins:
            found.append(Change(entry, answer, now))
        answer = now
    return answer, found


def _served(answer: Answer | None) -> object:
    """What of an answer somebody who is served would notice."""
    if answer is None:
        return None
    return [
        (each.site, each.share, [one.appliance for one in each.appliances if one.weight])
        for each in answer.sites
    ]
