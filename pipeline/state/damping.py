"""Which sessions and which routes flap, so that what comes back is not believed at once.

Idea: a withdrawal is always acted upon; it is the return that clients pay for, since the next
withdrawal cuts off whoever came back. So what went down too often is damped: its routes stay in the
table and are ranked last (decide/proximity.py), until its penalty has decayed.
Rule: a session adds to its penalty when it goes down (PeerDown) after it had announced something; a
route when it is withdrawn or gets other attributes while it stands. What goes down with its session
is not the route's own flap. Coming up, a refresh (PeerUp with all routes again) and the end of a
RIB add nothing. A site's route to a prefix is damped when its session is or it is itself.
Sources: RFC 2439; half-life, reuse, and what a withdrawal and a change add are FRR's. A route
is suppressed from 6000 on, as RFC 7196 advises: one event far away arrives as many changes, and
2000 punished the well connected. A session falls by itself, nothing multiplies that, and while it
is away it keeps all its clients from the nearest site: its figures are those that were best in
closed loop (docs/adr/0035-route-damping.md). The second fall within three minutes is damped, a
reset is not, and six minutes after the last fall it is believed again at the latest.
Rejected: dropping damped routes (a prefix would lose its last site); waiting for so many quiet
seconds before any return (a session that was reset once is away from its clients for as long).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import DampingConfig
from pipeline.state.codec import Fields, within
from pipeline.state.keyindex import distinct, grown
from pipeline.state.penalties import PENALTY_CEILING, Limits, Penalties
from pipeline.state.routebatch import Batch

Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Turned:
    """What was damped, or is no longer: ids of sessions, and of routes (rows of Routes)."""

    sessions: Int64
    routes: Int64

    def __bool__(self) -> bool:
        return bool(len(self.sessions) or len(self.routes))


NOTHING = Turned(np.empty(0, np.int64), np.empty(0, np.int64))


class Damping:
    """Penalties of `sessions` and of `routes`."""

    def __init__(self) -> None:
        self.sessions, self.routes = Penalties(), Penalties()
        self._up: Bools = np.zeros(64, np.bool_)  # by session: has announced since it went down

    def fields(self) -> dict[str, Any]:
        """All of it for a snapshot."""
        return {
            "up": np.flatnonzero(self._up),
            **within("session", self.sessions.fields()),
            **within("route", self.routes.fields()),
        }

    @classmethod
    def of(cls, fields: Fields) -> "Damping":
        """The inverse of `fields`."""
        made, up = cls(), fields["up"]
        made.sessions = Penalties.of(fields.part("session"))
        made.routes = Penalties.of(fields.part("route"))
        made._up = grown(made._up, int(up.max(initial=-1)) + 1)
        made._up[up] = True
        return made

    @property
    def any(self) -> bool:
        """Whether anything is damped now."""
        return bool(len(self.sessions.suppressed) or len(self.routes.suppressed))

    def take(
        self, batch: Batch, row: Int64, gone: Int64, changed: Int64, now_ms: int,
        config: DampingConfig,
    ) -> Turned:  # fmt: skip
        """Add what a batch says. `row`: distinct routes, ascending; `gone`, `changed`: how often
        each was withdrawn, and changed, while it stood. Returns what is damped from now on."""
        amount = gone * config.withdrawal_penalty + changed * config.change_penalty
        flapped = np.flatnonzero(amount)
        limits = Limits(
            config.route_suppress,
            config.reuse,
            config.route_half_life_ms,
            config.reuse * PENALTY_CEILING,
        )
        routes = self.routes.add(row[flapped], amount[flapped], now_ms, limits)
        fell, times = self._fallen(batch)
        limits = Limits(
            config.session_suppress,
            config.reuse,
            config.session_half_life_ms,
            config.session_penalty_max,
        )
        sessions = self.sessions.add(fell, times * config.withdrawal_penalty, now_ms, limits)
        return Turned(sessions, routes)

    def _fallen(self, batch: Batch) -> tuple[Int64, Int64]:
        """(sessions, ascending; how often each went down after it had announced)."""
        downs, session = batch.downs, batch.session[batch.announce].astype(np.int64)
        self._up = grown(self._up, max(int(session.max(initial=-1)) + 1, len(downs)))
        if not len(downs):
            self._up[session] = True
            return NOTHING.sessions, NOTHING.sessions
        turn = batch.down_epoch[batch.announce]
        before = turn < np.append(downs, 0)[np.minimum(session, len(downs))]
        was_up = np.flatnonzero((downs > 0) & self._up[: len(downs)]) << 32  # before its first fall
        fell = distinct(np.concatenate([(session << 32 | turn)[before], was_up]))
        self._up[np.flatnonzero(downs)] = False
        self._up[session[~before]] = True
        times = np.bincount(fell >> 32)
        fallen = np.flatnonzero(times)
        return fallen, times[fallen]

    def release(self, now_ms: int) -> Turned:
        """Let go of what has been quiet for long enough; returns it."""
        return Turned(self.sessions.release(now_ms), self.routes.release(now_ms))
