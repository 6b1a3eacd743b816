"""The routes that a cell holds of one BGP session, as they could be announced again."""

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


def sessions_of(routes: Routes) -> list[tuple[str, str]]:
    """(site, peer) of every session that was heard of."""
    return list(routes._sessions)
