"""BGP sessions by name: the routes that a cell holds of one, as they could be announced again, and
until when what of it is damped."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.state.lpm import Prefixes, rows_of
from pipeline.state.routes import NONE, Routes

_HALF, _LOW = np.uint64(32), np.uint64(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True)
class SessionRoutes:
    """Live routes as equally long columns; med -1: without."""

    prefixes: Prefixes
    path_id: npt.NDArray[np.int64]
    as_path_len: npt.NDArray[np.int64]
    med: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.path_id)


def session_routes(routes: Routes, site: str, peer: str) -> SessionRoutes:
    """Those that `site` has learned from `peer`, in the order in which they were first seen."""
    session = routes._sessions.get((site, peer), NONE)
    source = routes._sources.column(0)
    mine = (source >> _HALF).astype(np.int64) == session
    key = routes._keys.column(0)
    row = np.flatnonzero(routes._attribute[: len(key)] != NONE)
    row = row[mine[(key[row] & _LOW).astype(np.int64)]]
    as_path_len, med = routes.attributes()
    attribute = routes._attribute[row]
    return SessionRoutes(
        prefixes=rows_of(routes.by_id, (key[row] >> _HALF).astype(np.int64)),
        path_id=(source[(key[row] & _LOW).astype(np.int64)] & _LOW).astype(np.int64),
        as_path_len=as_path_len[attribute],
        med=med[attribute],
    )


def session_name(routes: Routes, session: int) -> str:
    """`site|peer`."""
    site, peer = int(routes._session_site[session]), int(routes._session_peer[session])
    return f"{routes.sites.names[site]}|{routes.peers.names[peer]}"


def sessions_with(routes: Routes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The session of each of these routes (rows)."""
    source = (routes._keys.column(0)[rows] & _LOW).astype(np.int64)
    return (routes._sources.column(0)[source] >> _HALF).astype(np.int64)


def damped_until_ms(routes: Routes, site: str, peer: str, prefix: Prefixes, path_id: int) -> int:
    """When a route (`prefix` of one row) or its session is believed again; 0: it is."""
    session = routes._sessions.get((site, peer), NONE)
    source = np.array([session << 32 | path_id], np.int64).astype(np.uint64)
    at, origin = routes.prefixes.find(*prefix), routes._sources.find(source)
    if NONE in (session, int(at[0]), int(origin[0])):
        return 0
    row = routes._keys.find((at.astype(np.uint64) << _HALF) | origin.astype(np.uint64))
    damping = routes.damping
    return max(damping.sessions.get(session)[1], damping.routes.get(int(row[0]))[1])


def sessions_of(routes: Routes) -> list[tuple[str, str]]:
    """(site, peer) of every session that was heard of."""
    return list(routes._sessions)
