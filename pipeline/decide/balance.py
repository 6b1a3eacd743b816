"""How much more or less of a site's new load an appliance gets than its capacity says, until the
loads of all are equal.

Idea: weights by capacity decide where sessions go that begin now or ask again. Those that watch
stay for minutes, so what is uneven (after a failure, an upgrade, a start) stays uneven for as long.
So whoever is behind the site's mean load gets more than its part, and whoever is ahead less. The
correction is proportional and vanishes at equal loads: what capacity is, is not its business
(state/health.py measures that).
Rule: `behind` is how far an appliance's load lies below the site's mean, weighted by capacity, as a
share of that mean. Beyond BAND (and what one seat of its weight is: finer it cannot be) it leans by
GAIN times what is beyond it, within LEAST and MOST, in whole STEPs and only once it is three
quarters of a STEP away from where it leans now; at loads that are too low to tell, not at all. Who
is not compared (load -1) does not lean.
Sources: GAIN: sessions follow within some T (300 s where they ask again as HLS says; 240 s with
those that end), reports are smoothed over 17 s and arrive within 5. The loop GAIN / ((1 + T s)
(1 + 17 s)) e^-5s has its least phase margin near T = 17 s: 46 degrees at a GAIN of 3, so that it
does not ring whatever T is; 50 % of unevenness is gone after 42 s instead of 166. MOST: the least
loaded of many gets twice its part where the less loaded of two is chosen (Mitzenmacher). BAND and
STEP keep within the 3 % asked for: the least correction, of three quarters of a STEP, is made at
1.5 % + 3.75 % / GAIN = 2.75 %; reports' noise moves `behind` by 0.3 % (simulated: 1 % in each).
Rejected: choice of two by weights (it never comes to rest: each change of order in load is a new
table); an integral (it would wind up where load does not follow: an appliance without sessions).
"""

import numpy as np
import numpy.typing as npt

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

FULL = 10_000
GAIN = 3
BAND, STEP = 150, 500
LEAST, MOST = 2_500, 20_000
#: A site's turn comes with every fifth tick: about once in the 5 s in which all of it reports anew.
TURNS = 5
#: Mean load (ten-thousandths) from which a comparison says something, and fully.
TELLS_FROM, TELLS_FULLY = 1_000, 3_000
_MBPS = 1_000_000


def leans(site: I32, usable_bps: I64, load: I64, seats: I64, before: I64) -> I64:
    """int64[N]: what each appliance leans by now, in ten-thousandths of its capacity; site int32[N]
    (-1: none), load int64[N] in ten-thousandths (-1: not compared), seats (its weight) and before
    int64[N]."""
    out = np.full(len(site), FULL, np.int64)
    rows = np.flatnonzero((load >= 0) & (usable_bps > 0) & (site >= 0))
    if not len(rows):
        return out
    where, own = site[rows], load[rows]
    weight = usable_bps[rows] // _MBPS + 1
    total, room = np.zeros((2, int(where.max()) + 1), np.int64)
    np.add.at(total, where, weight * own)
    np.add.at(room, where, weight)
    mean = (total // np.maximum(room, 1))[where]
    behind = (mean - own) * FULL // np.maximum(mean, 1)
    band = BAND + FULL // np.maximum(seats[rows], 1)
    beyond = behind - np.clip(behind, -band, band)
    told = np.clip(mean - TELLS_FROM, 0, TELLS_FULLY - TELLS_FROM)
    wanted = np.clip(FULL + GAIN * beyond * told // (TELLS_FULLY - TELLS_FROM), LEAST, MOST)
    far = np.abs(wanted - before[rows]) > STEP * 3 // 4
    out[rows] = np.where(far, (wanted + STEP // 2) // STEP * STEP, before[rows])
    return out
