"""How the capacity of a site that serves several regions is divided between their cells.

Idea: what a region wants of a site is what it would send there with everybody at the nearest site.
That does not depend on what it gets, so a division by it cannot chase its own effect.
Rule: the home divides. Everybody gets what it wants, and as much more each as there is; where it
does not suffice, those that want least get it, and the others as much as each other (max-min
fair).
While nobody is short nothing changes, and never by less than `min_shift`.
Shares are ten-thousandths of what the site can carry now, so a machine that fails takes from all
alike, without a word between the cells.
Nothing is given twice: what one loses another gets only when the loser's plan rests on less. A
region is told of a change only when it has confirmed the one before, so at most one is under way,
and what it may be using is at most the greater of the two. A region that is silent keeps both.
A home that has lost its memory (a log without its beginning) believes what a region says it has.

The price (what one more kbit/s would save a region, in units of proximity cost) travels along and
stands in the verdicts: it says what the division costs whom. Rejected: dividing by price (a price
jumps where an alternative fills up, and the division would go to and fro about that); one auction
over all cells (rounds of messages for each plan); the home planning for all (it has not their
routes).

Source: max-min fairness by progressive filling, Bertsekas and Gallager, Data Networks (1992),
section 6.5.2.
"""

from collections.abc import Mapping, Sequence

from pipeline.decide.transport import TOTAL
from pipeline.state.sharing import Claim, Grant

_NOTHING = Grant(0, 0)


def divide(wants: Sequence[int], total: int = TOTAL) -> list[int]:
    """`total` as integers over non-negative `wants`; the rest of a division goes to the first."""
    order = sorted(range(len(wants)), key=lambda at: (wants[at], at))
    shares, left = [0] * len(wants), total
    for done, at in enumerate(order):
        shares[at] = min(wants[at], left // (len(wants) - done))
        left -= shares[at]
    hungry = [at for at in range(len(wants)) if shares[at] < wants[at]] or list(range(len(wants)))
    for number, at in enumerate(hungry):
        shares[at] += left // len(hungry) + (number < left % len(hungry))
    return shares


def shares_of(wants_bps: Sequence[int], capacity_bps: int) -> list[int]:
    """What part of the capacity is wanted, in ten-thousandths, rounded up; at most all."""
    capacity_bps = max(capacity_bps, 1)
    return [min(-(-want * TOTAL // capacity_bps), TOTAL) for want in wants_bps]


def targets(
    regions: Sequence[str],
    wants: Sequence[int],
    given: Mapping[str, Grant],
    heard: Sequence[bool],
) -> list[int]:
    """What each should have, in ten-thousandths: what it has, while nobody is short; nothing, while
    it was never heard of."""
    home = given.get(regions[0], Grant(0, TOTAL))
    have = [home.share, *(given.get(region, _NOTHING).share for region in regions[1:])]
    if all(want <= share for want, share in zip(wants, have, strict=True)):
        return have
    divided = iter(divide([want for want, known in zip(wants, heard, strict=True) if known]))
    return [next(divided) if known else 0 for known in heard]


def regrant(
    regions: Sequence[str],
    target: Sequence[int],
    given: Mapping[str, Grant],
    claims: Mapping[str, Claim],
    planned: int,
    cut: int,
    min_shift: int,
) -> dict[str, Grant]:
    """What the home (the first of `regions`) gives each now. `given`: what it gave last; `claims`:
    what the others told; `planned`: the share that its own plan rests on. Never more than all
    together, counting what anybody may still be using."""
    home = regions[0]
    now = {region: given.get(region, _NOTHING) for region in regions}
    for region, claim in claims.items():
        if region in now and claim.grant_cut > now[region].cut:
            now[region] = Grant(claim.grant_cut, claim.share)
    if home not in given:
        now[home] = Grant(cut, TOTAL - sum(one.share for one in now.values()))
    using, settled = {}, {}
    for region in regions:
        share, told = now[region].share, claims.get(region)
        if region == home:
            using[region], settled[region] = max(share, planned), True
        elif told is None:  # never heard of: it does not plan yet
            using[region], settled[region] = share, False
        else:
            settled[region] = told.grant_cut == now[region].cut
            using[region] = share if settled[region] else max(share, told.share)
    for region, want in zip(regions, target, strict=True):
        if settled[region] and now[region].share - want >= max(min_shift, 1):
            now[region] = Grant(cut, want)
    free = TOTAL - sum(using.values())
    for region, want in zip(regions, target, strict=True):
        more = min(want - using[region], free)
        if settled[region] and more >= max(min_shift, 1):
            now[region] = Grant(cut, using[region] + more)
            free -= more
    return now
