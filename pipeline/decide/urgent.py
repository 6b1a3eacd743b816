"""News that must not wait for the tick: an appliance says that it stops serving.

Only what takes capacity away is urgent. That an appliance is well again can wait for the next tick:
it comes back slowly anyway. ("Bad news has priority", as Espresso's local controllers have it.)
"""

import numpy as np
import polars as pl

from pipeline.state.fleet import Fleet
from pipeline.state.health import Health, Service
from pipeline.state.ids import codes


def is_urgent(fleet: Fleet, health: Health, reports: pl.DataFrame) -> bool:
    """Whether any row of `reports` (Health rows) tells of a service other than OK that the state
    does not know yet. Asks only; changes nothing."""
    service = reports.get_column("service")
    troubled = reports.filter(service != "OK")
    if not troubled.height:
        return False
    index = fleet.appliances.index(troubled.get_column("appliance"))
    told = codes(troubled.get_column("service"), Service.__members__)
    known = index >= 0
    index, told = index[known], told[known]
    remembered = np.zeros(len(index), dtype=np.uint8)  # never reported: as if OK
    old = index < len(health.service)
    remembered[old] = health.service[index[old]]
    return bool((remembered != told).any())
