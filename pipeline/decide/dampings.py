"""Verdicts of kind "session", of entity `site|peer`: where a BGP session, or some of its routes,
begin to be damped (state/damping.py) and where they are believed again."""

import numpy as np

from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.damping import Turned
from pipeline.state.routes import Routes
from pipeline.state.sessionroutes import session_name, sessions_with

_TRUSTED, _DAMPED, _SOME = "TRUSTED", "DAMPED", "SOME_DAMPED"


def told_damped(routes: Routes, turned: Turned, now_ms: int) -> list[VerdictRow]:
    """What begins to be damped."""
    rows = []
    for session in turned.sessions.tolist():
        penalty, until_ms = routes.damping.sessions.get(session)
        detail = f"penalty {penalty}; its routes rank last for {(until_ms - now_ms) // 1000} s"
        states = (_TRUSTED, _DAMPED)
        rows.append(_row(routes, session, states, Reason.ROUTE_DAMPED, detail))
    for session, count in _by_session(routes, turned):
        detail = f"{count} of its routes flap and rank last"
        rows.append(_row(routes, session, (_TRUSTED, _SOME), Reason.ROUTE_DAMPED, detail))
    return rows


def told_released(routes: Routes, turned: Turned) -> list[VerdictRow]:
    """What is damped no longer."""
    rows = [
        _row(routes, session, (_DAMPED, _TRUSTED), Reason.RELEASED, "")
        for session in turned.sessions.tolist()
    ]
    for session, count in _by_session(routes, turned):
        detail = f"{count} of its routes have been quiet"
        rows.append(_row(routes, session, (_SOME, _TRUSTED), Reason.RELEASED, detail))
    return rows


def _by_session(routes: Routes, turned: Turned) -> list[tuple[int, int]]:
    """(session, how many of its routes turned)."""
    if not len(turned.routes):
        return []
    counts = np.bincount(sessions_with(routes, turned.routes))
    return [(int(session), int(counts[session])) for session in counts.nonzero()[0]]


def _row(
    routes: Routes, session: int, states: tuple[str, str], reason: Reason, detail: str
) -> VerdictRow:
    return VerdictRow("session", session_name(routes, session), *states, reason, detail)
