"""A site that is asked for more than it can carry is planned below that until it no longer is.

Idea: shares say where sessions go that begin or ask again; those that are too many at a site leave
it one by one, over minutes, while all of them stall. As long as more is wanted there than planned,
still less is planned, in proportion to the excess, so that it goes away as many times faster.
Rule: of a site's capacity GAIN times what plays want of it beyond where it is full
(saturated_enter, and a BAND, so that noise is no overload) is not planned on, at most a half.
It comes to rest at the plan's target: where nothing is beyond full nothing is taken away, whatever
the delays, so that it cannot ring. A target that an operator lowers is a plan and no overload. GAIN
is that of balance.py, for the same sessions.
Source: what Taiji says of planned shifts (80 % of the way) is for what can wait; failures are not
paced (DESIGN section 5). Rejected: closing the site until it is well (Traffic Control: it empties,
its neighbours fill, and back).
"""

import numpy as np

from pipeline.decide.assignment import I64
from pipeline.decide.balance import FULL, GAIN

BAND = 100  # ten-thousandths of capacity


def eased(site_bps: I64, wanted_bps: I64, full: int) -> I64:
    """int64[S]: what of site_bps may be planned on, given what plays want of each site; full: the
    share of it, in ten-thousandths, beyond which it is overloaded."""
    excess = np.maximum(wanted_bps - site_bps // FULL * (full + BAND), 0)
    excess = np.minimum(excess, site_bps)  # beyond it nothing more follows, and no overflow
    planned: I64 = np.maximum(site_bps - GAIN * excess, site_bps // 2)
    return planned
