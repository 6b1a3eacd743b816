"""Viewers that follow what is published, as real players would: the closed loop.

Each asks the table that a follower holds and takes its place by rendezvous, so a weight that
changes moves just that part of the viewers. Answers are kept until the table's next step: viewers
are Zipf, and most ask for a prefix that another has just asked for.
"""

import numpy as np

from pipeline.follow.lookup import CLASSES, Answer, place, who
from pipeline.follow.table import SteeringTable
from pipeline.sim.demand import I32, I64, U64
from pipeline.sim.prefixes import addresses


class Published:
    """A `Steering` by the table; call `stepped` whenever the table has moved on."""

    def __init__(self, table: SteeringTable, appliances: list[str], regions: list[str]) -> None:
        self._table, self._regions = table, regions
        self._index = {name: number for number, name in enumerate(appliances)}
        self._answers: dict[tuple[int, int], Answer | None] = {}

    def stepped(self) -> None:
        """What was answered may no longer be so."""
        self._answers.clear()

    def __call__(
        self, session: I64, region: I32, prefix: I32, hi: U64, lo: U64, traffic_class: I32
    ) -> I32:
        """The appliance of each viewer, -1 where the table knows none."""
        found = np.full(session.size, -1, dtype=np.int32)
        raw = addresses(hi, lo)
        asked = zip(
            session.tolist(), region.tolist(), prefix.tolist(), traffic_class.tolist(), strict=True
        )
        for row, (number, area, announced, sort) in enumerate(asked):
            if (announced, sort) not in self._answers:
                self._answers[announced, sort] = who(
                    self._table, raw[row].tobytes(), CLASSES[sort], self._regions[area]
                )
            answer = self._answers[announced, sort]
            placed = place(answer, number) if answer is not None else None
            if placed is not None:
                found[row] = self._index.get(placed.appliance, -1)
        return found
