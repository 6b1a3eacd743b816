"""Nearest only: everybody goes where routing says, whatever happens there.

Source: the reference that others are measured against; Open Connect ranks "by network proximity
alone" before any filter (DOMAIN). Rule: the nearest routed site, appliances by inventory capacity;
no health, no load.
"""

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.policy import Routes, all_to, by_capacity
from pipeline.sim.loop.reports import News


class Nearest:
    """Follows routes, and nothing else."""

    def __init__(self, layout: Layout) -> None:
        self._layout, self._routes = layout, Routes(layout)
        self._table = Followed(all_to(layout, self._routes.nearest()), by_capacity(layout))

    def decide(self, news: News) -> Followed:
        if self._routes.fold(news):
            share = all_to(self._layout, self._routes.nearest())
            self._table = Followed(share, self._table.weight)
        return self._table
