"""The routes around one address as the section of a cell has them, each with the record that it
stands in. Rows are cut down to those around the address first and then read by the section's own
reader (state/routebatch.py), so that a refused announcement withdraws here as it does there, and a
session that comes up or goes down flushes the same routes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from pipeline.config import SteeringConfig
from pipeline.replay.provenance import Around, accepted
from pipeline.state.routebatch import read_batch
from pipeline.wire.address import prefix_bytes
from pipeline.wire.rows import OFFSET, Account, Refused, TopicRows

Int64 = npt.NDArray[np.int64]


class Route(NamedTuple):
    """A route that is announced, and where that stands. `med` -1: without."""

    site: str
    peer: str
    path_id: int
    prefix: bytes
    as_path_len: int
    med: int
    offset: int


class RouteNews(NamedTuple):
    """A change of a route around the address: `was` or `now` None where there is none; `offset` of
    the record that made it."""

    was: Route | None
    now: Route | None
    offset: int


@dataclass(slots=True)
class LiveRoutes:
    """The routes around an address as the section has them, each with its record."""

    around: Around
    live: dict[tuple[int, int, bytes], Route] = field(default_factory=dict)
    _names: list[tuple[str, str]] = field(default_factory=list)
    _sessions: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(
        self, rows: TopicRows, refused: Sequence[Refused], now_ms: int, config: SteeringConfig
    ) -> list[RouteNews]:
        """Follow a cut's rows of bgp.routes; what changed."""
        frames = dict(rows.frames)
        if "Route" in frames:
            hold = self.around.covered_by(frames["Route"].get_column("prefix"))
            frames["Route"] = frames["Route"].filter(pl.Series(hold))
        batch = read_batch(TopicRows(rows.topic, frames), now_ms, config, self._session, Account())
        news = self._flush(rows, refused, batch.flushes)
        hold = self.around.inside(*batch.prefixes)
        prefixes = prefix_bytes(*batch.prefixes)
        for row in np.flatnonzero(hold).tolist():
            session, path_id = int(batch.session[row]), int(batch.path_id[row])
            prefix, offset = prefixes[row].tobytes(), int(batch.offset[row])
            key = (session, path_id, prefix)
            flushed = session < len(batch.flushes) and batch.epoch[row] < batch.flushes[session]
            was, now = self.live.pop(key, None), None
            if batch.announce[row] and not flushed:
                figures = int(batch.as_path_len[row]), int(batch.med[row])
                now = Route(*self._names[session], path_id, prefix, *figures, offset)
                self.live[key] = now
            if (was and was[4:6]) != (now and now[4:6]):
                news.append(RouteNews(was, now, offset))
        return news

    def best(
        self, site: str, longest: int, damped: Callable[[Route], int]
    ) -> tuple[Route | None, int]:
        """The site's most specific announcement of at most this length: the route that stands for
        it, and how many others of the same prefix it has. `damped`: above 0 for what is."""
        own = [route for route in self.live.values() if route.site == site]
        own = [route for route in own if route.prefix[16] <= longest]
        length = max((route.prefix[16] for route in own), default=-1)
        own = [route for route in own if route.prefix[16] == length]
        found = min(
            own,
            key=lambda one: (damped(one) > 0, one.as_path_len, max(one.med, 0), one.offset),
            default=None,
        )
        return found, max(0, len(own) - 1)

    def _session(self, site: str, peer: str) -> int:
        found = self._sessions.get((site, peer))
        if found is None:
            found = self._sessions[site, peer] = len(self._names)
            self._names.append((site, peer))
        return found

    def _flush(
        self, rows: TopicRows, refused: Sequence[Refused], flushes: Int64
    ) -> list[RouteNews]:
        """Withdraw what the sessions that came up or went down had announced before this cut."""
        ended = {self._names[at]: -1 for at in np.flatnonzero(flushes).tolist()}
        for name in {"PeerUp", "PeerDown"} & rows.frames.keys() if ended else ():
            frame = accepted(rows.frames[name], refused)
            for site, peer, offset in frame.select("site", "peer", OFFSET).iter_rows():
                ended[site, peer] = max(ended[site, peer], offset)
        gone = [key for key in self.live if self._names[key[0]] in ended]
        return [RouteNews(self.live.pop(key), None, ended[self._names[key[0]]]) for key in gone]
