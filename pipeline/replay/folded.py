"""One cell, folded up to the moment that is asked about, and all that is asked of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from pipeline.cut import Cut
from pipeline.follow.lookup import Answer, group_id_of, who
from pipeline.replay.archive import Recording
from pipeline.replay.explanation import Cover, Explanation, Published, Verdict
from pipeline.replay.facts import Facts
from pipeline.replay.fold import Ignored, Rows, Step, fold
from pipeline.replay.manifest import CellSpan
from pipeline.replay.moves import Witness, concerns, report_of, sites_of
from pipeline.replay.origins import Epochs, config_records, cut_records
from pipeline.replay.provenance import InSnapshot, Records
from pipeline.replay.served import Entry, Timeline, table_of
from pipeline.replay.trail import Trail
from pipeline.wire.address import PREFIX_SIZE
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES


@dataclass(frozen=True, slots=True)
class Asked:
    """The question."""

    address: bytes
    at_ms: int
    traffic_class: str
    region: str | None


class _Reached(Exception):  # noqa: N818  (no error: the moment was reached)
    pass


class Folded:
    """One cell, folded up to the moment; all that is asked of it is asked here, for the state does
    not outlive this."""

    def __init__(
        self,
        recording: Recording,
        span: CellSpan,
        asked: Asked,
        progress: Callable[[int], None],
    ) -> None:
        self.trail, self.timeline = Trail(asked.address), Timeline(asked.address)
        self.explained: Explanation | None = None
        self.covers: list[Cover] = []
        self.regions: list[str] = []
        self._records = Records(recording, span.partition)
        last = self._fold(recording, span, asked.at_ms, progress)
        if last is None:
            return
        fleet = last.cell.fleet
        self.regions = [name for name, held in last.cell.ledger.prefixes.items() if len(held)]
        sites = [fleet.sites.names[at] for at in fleet.appliance_site.tolist()]
        site_of = dict(zip(fleet.appliances.names, sites, strict=True))
        logs = cut_records(recording, span.partition), config_records(recording)
        self.witness = Witness(self.trail, self._records, site_of, *logs)
        self._epochs = Epochs(recording, span.partition, self._records)
        self.covers = [*self._covers(self.timeline.entries[-1])]
        answer = who(
            table_of(self.timeline.entries[-1:]),
            asked.address,
            asked.traffic_class,
            asked.region,
        )
        if answer is not None:
            answer = replace(answer, cut=last.cut.number)
            self.explained = self._explain(last, asked, answer)

    def _fold(
        self, recording: Recording, span: CellSpan, at_ms: int, progress: Callable[[int], None]
    ) -> Step | None:
        """Fold up to the last cut at or before the moment, and not beyond."""

        def stop(
            cell: Cell, rows: Rows, cut: Cut, config: SteeringConfig
        ) -> tuple[Rows, SteeringConfig]:
            if cut.at_ms > at_ms:
                raise _Reached
            if not self.timeline.entries and cell.now_ms:
                self.timeline.begin(cell, cut, config)
            return rows, config

        last = None
        try:
            for number, last in enumerate(fold(recording, span, Ignored(), stop), 1):
                self.trail.take(last)
                self.timeline.take(last)
                progress(number)
        except _Reached:
            pass
        return last

    def verdicts(self, sites: set[str], regions: set[str], since_ms: int) -> Iterator[Verdict]:
        """On these sites, their appliances and the tables of these regions."""
        for told in self.trail.verdicts:
            if told.at_ms >= since_ms and concerns(told, sites, regions, self.witness):
                yield Verdict(told, report_of(told, self.witness))

    def _explain(self, last: Step, asked: Asked, answer: Answer) -> Explanation:
        facts = Facts(last.cell, self.trail, self._records, last.config)
        cut, longest = last.cut, answer.prefix[PREFIX_SIZE - 1]
        epoch, agrees = self._epochs.judge(cut.number, last.effects.epoch.table_hash)
        index = last.cell.fleet.regions.get(answer.region)
        names = sites_of(answer)
        group = self._published(STEERING_GROUPS.name, answer.group + answer.region.encode())
        groups = last.cell.ledger.groups[answer.region]
        slot = int(groups.slots(np.array([int.from_bytes(answer.group, "big")], np.uint64))[0])
        return Explanation(
            asked_ms=asked.at_ms,
            answer=answer,
            cut=cut,
            cut_record=self.witness.cuts.get((cut.number, cut.term, cut.writer)),
            config_record=self.witness.configs.get(cut.config_hash),
            epoch=epoch,
            agrees=agrees,
            held=last.cell.regions[index].guard.held_reason,
            covers=(),
            region_record=facts.thing("region", answer.region),
            networks=tuple(
                (prefix, facts.thing("network", prefix.hex())) for prefix in self._networks(longest)
            ),
            group=group,
            weights={name: self._published(LB_WEIGHTS.name, name.encode()) for name in names},
            sites={name: facts.site(name, longest) for name in names},
            planned_bps=tuple(groups.demand_bps[slot].tolist()),
            block=facts.block(index),
            drawn=self.trail.plays.drawn(index, cut.at_ms, last.config, self._records),
            known_since_ms=self.timeline.entries[0].cut.at_ms,
            moves=(),
            verdicts=(),
        )

    def _networks(self, longest: int) -> list[bytes]:
        """Networks on the map that hold the prefix, the nearest first."""
        kept = [
            bytes.fromhex(name) for kind, name in self.trail.inventory.offsets if kind == "network"
        ]
        kept = [prefix for prefix in kept if prefix[PREFIX_SIZE - 1] <= longest]
        return sorted(kept, key=lambda prefix: -prefix[PREFIX_SIZE - 1])

    def _covers(self, entry: Entry) -> Iterator[Cover]:
        for key, value in entry.held[STEERING_PREFIXES.name].items():
            prefix, region = key[:PREFIX_SIZE], key[PREFIX_SIZE:].decode()
            published = self._published(STEERING_PREFIXES.name, key)
            yield Cover(prefix, region, group_id_of(value), published)

    def _published(self, topic: str, key: bytes) -> Published:
        cut = self.trail.published.get((topic, key), 0)
        if not cut and self.trail.first_cut > 1:
            return Published(topic, key, 0, -1, -1, InSnapshot(self.trail.first_cut - 1))
        return Published(topic, key, cut, *self._epochs.between(topic, cut))
