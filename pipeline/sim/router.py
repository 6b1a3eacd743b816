"""Which appliance takes a viewer, by the world's own knowledge of who is near and has room."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.sim.plant import USABLE, Plant

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
U64 = npt.NDArray[np.uint64]

#: (session, region, prefix, hi, lo, class) of viewers -> appliance each, -1 where there is none.
Steering = Callable[[I64, I32, I32, U64, U64, I32], I32]
#: Where the room of a site ends for new viewers.
_FULL = 0.97


class Router:
    """Which appliance takes a viewer: by the nearest site with room, then by weight. `choices`: the
    sites of each prefix, nearest first, -1 none."""

    def __init__(self, choices: I32, plant: Plant) -> None:
        self._choices, self._plant = choices, plant
        self.service = np.zeros(len(plant.names), dtype=np.uint8)
        self.refresh(np.zeros(len(plant.names)))

    def refresh(self, load_bps: F64) -> None:
        """Take note of the load and of changed services."""
        plant = self._plant
        usable = plant.capacity_bps * USABLE[self.service]
        sites = plant.site_start.size - 1
        load = np.bincount(plant.site, weights=load_bps * (usable > 0), minlength=sites)
        room = np.bincount(plant.site, weights=usable, minlength=sites)
        self._site_full = load >= room * _FULL
        self._cumulative, self._base, self._total = [], [], []
        for bit in (1, 2, 4):
            mine = np.where(plant.serves & bit, usable, 0.0)
            running = np.concatenate([[0.0], np.cumsum(mine)])
            self._cumulative.append(running[1:])
            self._base.append(running[plant.site_start[:-1]])
            self._total.append(running[plant.site_start[1:]] - running[plant.site_start[:-1]])

    def route(self, prefix: I32, traffic_class: I32, uniform: F64) -> I32:
        """The appliance of each viewer; -1 where no site of its list can serve it at all."""
        choices = self._choices[prefix]
        can = np.zeros(choices.shape, dtype=bool)
        for index in range(3):
            here = traffic_class == index
            can[here] = self._total[index][choices[here]] > 0
        can &= choices >= 0
        free = can & ~self._site_full[choices]
        rank = np.where(free.any(axis=1), free.argmax(axis=1), can.argmax(axis=1))
        site = np.where(can.any(axis=1), choices[np.arange(rank.size), rank], -1)
        appliance = np.full(prefix.size, -1, dtype=np.int32)
        for index in range(3):
            here = (traffic_class == index) & (site >= 0)
            total = self._base[index][site[here]] + uniform[here] * self._total[index][site[here]]
            appliance[here] = np.searchsorted(self._cumulative[index], total, side="right")
        return np.minimum(appliance, self.service.size - 1)
