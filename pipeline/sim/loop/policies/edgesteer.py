"""The plane itself: pipeline.cell.step over one cut a second, read back as it would be followed.

Rule: the rows of a second are folded with a TICK; then the shares of each network are those of the
group that its published prefix points to, and the weights those of the published records. What is
read are the arrays that the records are made of, but for the weights, which are decoded.
"""

import numpy as np
import numpy.typing as npt

from pipeline.cell import Cell, step
from pipeline.config import CODE_VERSION, SteeringConfig
from pipeline.cut import Cause, Cut
from pipeline.effects import Effects, Record
from pipeline.publishedprefixes import keys_of
from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import CLASSES, Layout
from pipeline.sim.loop.reports import News
from pipeline.sim.loop.rows import REGION, Frames
from pipeline.state.lpm import ragged
from pipeline.wire.decode import decode
from schemas.registry import LB_WEIGHTS

_TOTAL = 10_000
F64 = npt.NDArray[np.float64]


class Edgesteer:
    """A cell of one region, and the table that its followers hold."""

    def __init__(self, layout: Layout, config: SteeringConfig | None = None) -> None:
        self._layout, self._frames = layout, Frames(layout)
        self._config = config or SteeringConfig()
        self._hash = self._config.hash()
        self.cell = Cell(0, 1)
        self._cuts = 0
        networks, width = layout.candidate.shape
        self._share: F64 = np.zeros((networks, CLASSES, width))
        self._weight = np.zeros(len(layout.site))
        self._appliance = {name: number for number, name in enumerate(layout.names)}
        #: place of each site among a network's candidates, -1: not there
        place = np.full((networks, layout.sites + 1), -1, np.int64)
        np.put_along_axis(place, layout.candidate.astype(np.int64), np.arange(width)[None, :], 1)
        place[:, -1] = -1
        self._place = place
        self._keys = keys_of(layout.prefixes())
        self._site_number = np.empty(0, np.int64)  # world's number by the fleet's id

    def decide(self, news: News) -> Followed:
        rows = self._frames.rows(news)
        if not self._cuts:
            rows = {**rows, **self._frames.beginning(news.now_ms)}
        self._cuts += 1
        cut = Cut(
            0, self._cuts, 1, "sim", news.now_ms, Cause.TICK, self._frames.offsets(), self._hash,
            CODE_VERSION,
        )  # fmt: skip
        effects = step(self.cell, rows, cut, self._config)
        if effects.tables:
            self._follow(effects)
        return Followed(self._share, self._weight)

    def _follow(self, effects: Effects) -> None:
        weights = [
            one for one in effects.tables
            if isinstance(one, Record) and one.topic == LB_WEIGHTS.name and one.value is not None
        ]  # fmt: skip
        if weights:
            self._weight = self._weight.copy()
        for record in weights:
            for member in decode(record.value or b"")[1]["appliances"]:
                weight = member["weight"] / _TOTAL
                self._weight[self._appliance[member["appliance"]]] = weight
        if len(weights) < len(effects.tables):
            self._share = self._shares()

    def _shares(self) -> F64:
        """share[B, C, K] as published."""
        share = np.zeros_like(self._share)
        fleet = self.cell.fleet
        if len(self._site_number) != len(fleet.sites):
            numbers = {name: number for number, name in enumerate(self._layout.site_names)}
            self._site_number = np.array([numbers[name] for name in fleet.sites.names])
        published, groups = self.cell.ledger.prefixes[REGION], self.cell.ledger.groups[REGION]
        if not len(published):
            return share
        at = np.minimum(np.searchsorted(published.keys, self._keys), len(published) - 1)
        slot = np.where(published.keys[at] == self._keys, groups.slots(published.group[at]), -1)
        network = np.flatnonzero(slot >= 0)
        slot = slot[network]
        count = np.diff(groups.offsets)[slot]
        entry = ragged(groups.offsets[slot], count)
        owner = np.repeat(network, count)
        place = self._place[owner, self._site_number[groups.site[entry]]]
        known = place >= 0
        for klass in range(CLASSES):
            share[owner[known], klass, place[known]] = groups.shares[entry[known], klass] / _TOTAL
        return share
