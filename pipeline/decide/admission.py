"""How much load a site that is being taken out of service still gets, so that it leaves evenly.

Idea: between two plans of all shares (pipeline/decide/shares.py) the share that is admitted
(pipeline/state/drains.py) goes down a little, and with it the most that the site may carry. The
solver moves what is above it to where that is cheapest: one group after the other, each once.

Rule: a site that is draining or returning carries at most

    cap = share x max(base, natural)

natural is what it would get with everybody at the nearest site, now; base what it carried when the
drain began, spill-over of others included, so that nothing leaves at once. From one plan to the
next no more moves than the share does, of that; the end of a drain and of a return are no jumps.
Load that finds no room elsewhere stays above the cap, reported as overflow, until nothing is
admitted any more. Then the site is not eligible (pipeline/decide/eligibility.py), and what nobody
else can serve stays there still.
Groups without demand make no load: they leave at the end, and come back at the beginning.

Rejected: a factor on capacity (a site that is a fifth full would keep all of it until the last
fifth of the time and then lose it in that); a share of each group (every step would write every
group that names the site, and split all of them); the share of what it carries now (it would
compound).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.decide.transport import I64, TOTAL
from pipeline.state.ids import grown

#: The cap where there is none; capacities are far below (unit of Solution.load).
NO_CAP = 2**62


@dataclass(frozen=True, slots=True)
class Admission:
    """As of the last plan, int64[S] each: share admitted, and part of the capacity that is this
    cell's, in ten-thousandths; base, cap and natural in the unit of Solution.load (kbit/s x
    ten-thousandths)."""

    share: I64
    part: I64
    base: I64
    cap: I64
    natural: I64

    @classmethod
    def none(cls, sites: int) -> "Admission":
        """Of sites that are all in service."""
        full, none = np.full(sites, TOTAL, np.int64), np.zeros(sites, np.int64)
        return cls(full, full, none, np.full(sites, NO_CAP, np.int64), none)

    def longer(self, sites: int) -> "Admission":
        """The same for at least this many sites."""
        return Admission(
            grown(self.share, sites, TOTAL),
            grown(self.part, sites, TOTAL),
            grown(self.base, sites, 0),
            grown(self.cap, sites, NO_CAP),
            grown(self.natural, sites, 0),
        )

    def moved(self, share: I64, part: I64, least: int) -> bool:
        """Whether a share went on by at least so much since the last plan, or a part is another."""
        before = self.longer(len(share))
        if (before.part != part).any():
            return True
        return bool((np.abs(share - before.share) >= max(least, 1)).any())

    def planned(self, share: I64, part: I64, held: I64, natural: I64) -> "Admission":
        """For a plan with these shares and parts: held, natural int64[S]: load as it was and as it
        would be with everybody nearest."""
        before = self.longer(len(share))
        begins = (before.share == TOTAL) | (before.base == 0)
        base = np.where(share < TOTAL, np.where(begins, held, before.base), 0)
        cap = np.maximum(base, natural) // TOTAL * share
        cap = np.where(paced(share), cap, NO_CAP)
        return Admission(share.copy(), part.copy(), base, cap, natural)

    def caps(self, share: I64) -> I64:
        """int64[S]: the caps between two plans. Where nothing is admitted only those are left who
        have no other site, and none is theirs."""
        return np.where(share > 0, self.longer(len(share)).cap, NO_CAP)


def paced(share: I64) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """bool[S]: on the way out or back."""
    return (share > 0) & (share < TOTAL)
