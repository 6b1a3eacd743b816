"""Paths that lose clearly more than another site's path to the same network does.

Idea: what every site loses towards a network is lost in that network, and nobody can be moved away
from it. What one site alone loses is lost on its side: on its link, its peering, its path; and
there is a path without it.
Rule: of the sites that measured a network at least SEEN times, each is held against the one that
loses least. Its path is lossy when it loses ENTER more, and more than chance: CERTAIN standard
errors of the difference of two shares of so many packets (of the samples that count). It is well
again when it loses less than LEAVE more. A lossy path ranks last (groups.py), so that whoever has
another is served there, and whoever has none stays.
Verdicts of kind "path", of entity site: when the first of its paths is lossy, when none is.
Sources: Edge Fabric measures alternate paths of a prefix beside the preferred one, and overrides it
where another is better (Schlinker et al. 2017). ENTER: beyond one per cent a connection over 35 ms
gets less than a video needs (Mathis et al. 1997). LEAVE: half of it, so that it does not go back
and forth.
Rejected: a threshold on loss alone (a bad network of clients would be blamed on every site); the
mean of the other sites (one more bad path hides the first); moving the whole site (most of its
paths may be well).
"""

import numpy as np
import numpy.typing as npt

from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Int32, Int64
from pipeline.state.paths import LOSS_SMOOTHING, Paths

ENTER, LEAVE = 0.01, 0.005
#: Four: the best of several sites is taken, of many paths, at every sample.
CERTAIN, SEEN = 4.0, 2
#: An average smoothed with s is as certain as that of so many samples.
_SAMPLES = (2.0 - LOSS_SMOOTHING) / LOSS_SMOOTHING
F64 = npt.NDArray[np.float64]


def judge(paths: Paths, fleet: Fleet) -> list[VerdictRow]:
    """Bring `paths.lossy` up to what was sampled since the last call; the verdicts."""
    rows, prefix = paths.take_news()
    if not len(rows):
        return []
    site = paths.site
    known = (paths.seen[rows] >= SEEN) & fleet.site_alive[site[rows]]
    rows, prefix = rows[known], prefix[known]
    if not len(rows):
        return []
    before = np.bincount(site[paths.lossy], minlength=len(fleet.sites))
    more, chance = _more(paths, rows, prefix)
    now = np.where(paths.lossy[rows], more >= LEAVE, (more >= ENTER) & (more > chance))
    paths.mark(rows, now)
    after = np.bincount(site[paths.lossy], minlength=len(fleet.sites))
    found = []
    for one in np.flatnonzero((before > 0) != (after > 0)).tolist():
        states = ("CLEAR", "LOSSY") if after[one] else ("LOSSY", "CLEAR")
        reason = Reason.PATH_LOSS if after[one] else Reason.RELEASED
        mine = site[rows] == one
        detail = (
            f"loses {100 * float(more[mine].max(initial=0.0)):.1f} % more than the best path to "
            f"the same network, to {after[one]} of {int((site == one).sum())}"
        )
        found.append(VerdictRow("path", fleet.sites.names[one], *states, reason, detail))
    return found


def _more(paths: Paths, rows: Int64, prefix: Int32) -> tuple[F64, F64]:
    """(how much more than the best of its prefix each of these loses, how much of that may be
    chance); rows in order of their prefixes."""
    loss = paths.loss[rows]
    count = np.maximum(paths.probes[rows], 1.0) * np.minimum(paths.seen[rows], _SAMPLES)
    first = np.flatnonzero(np.append(True, prefix[1:] != prefix[:-1]))
    owner = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(rows))))
    order = np.lexsort((np.arange(len(rows)), -count, loss, owner))
    best = order[first][owner]
    more = loss - loss[best]
    together = (loss * count + loss[best] * count[best]) / (count + count[best])
    error = np.sqrt(together * (1.0 - together) * (1.0 / count + 1.0 / count[best]))
    return more, CERTAIN * error
