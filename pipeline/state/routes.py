"""The routes that the sites of a cell have learned: per (site, peer, prefix, path) what decides.

Idea: proximity needs two numbers of a route, AS-path length and MED; the rest stays on the topic.
So a route is 16 bytes: its key (prefix id, source id), the id of its (length, MED) pair, and the
next route of the same prefix. All names are dense ids: prefixes, sources (session and path id),
attribute pairs.
Rule: rows are applied in offset order, PeerUp and PeerDown among them; the last word on a key
counts. A withdrawn route keeps its row without attributes, for most of them come back; when more
are dead than alive all is numbered anew (`generation`). What changed is kept as a journal of
prefix ids, from which every table takes what is new to it. What flaps is marked as damped
(damping.py); a route that is withdrawn keeps its row while it has a penalty.
Measured (2 cores): 3 million routes of 634,000 prefixes load in 2.7 s in chunks of half a million
and then take 130 MB; 1,000 changes 6 ms; a peer going down with 54,000 of them 33 ms.
Rejected: a dict of dicts (870 MB for the same); polars frames with a join for every cut (time goes
with all routes, not with the changed ones); a sorted main part with a sorted delta (every reader
has to merge, and prefixes of 128 bits do not sort natively); keeping only the best route per
(site, prefix) (a withdrawal needs the second best).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.config import SteeringConfig
from pipeline.reasons import Noted
from pipeline.state.damping import NOTHING, Damping, Turned
from pipeline.state.fleet import Fleet
from pipeline.state.ids import Ids
from pipeline.state.journal import Journal
from pipeline.state.keyindex import KeyIndex, distinct, grown
from pipeline.state.lpm import Prefixes
from pipeline.state.routebatch import MISSING_MED, Batch, read_batch
from pipeline.wire.rows import Account, TopicRows

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

NONE = -1
_U64 = np.uint64
_LOW = _U64(0xFFFF_FFFF)
_HALF = _U64(32)
_MED_BITS = _U64(33)  # MED + 1, so that 0 says "without"
#: Fewer dead rows are not worth numbering anew; fewer changes are always kept in the journal.
_SPARE = 65_536
#: Routes that are looked at together where all are: ranking them takes 0.1 KB each meanwhile.
_PART = 1 << 20


@dataclass(frozen=True, slots=True)
class RouteRows:
    """Live routes as equally long columns: prefix id, site id (of Routes.sites), attribute id,
    whether it or its session flaps."""

    prefix: Int32
    site: Int32
    attribute: Int32
    damped: Bools


class Routes:
    """`prefixes`: KeyIndex of (hi, lo, length), all prefixes that have or had routes; `sites`:
    names of the sites that announce; `version` grows with every change, `generation` with every
    renumbering."""

    def __init__(self) -> None:
        self.sites, self.peers = Ids(), Ids()
        self.damping = Damping()
        self.generation = 0
        self._journal = Journal()
        self._sessions: dict[tuple[str, str], int] = {}
        self._session_site: Int32 = np.empty(64, dtype=np.int32)
        self._session_peer: Int32 = np.empty(64, dtype=np.int32)
        self._number_anew()

    def _number_anew(self) -> None:
        self.prefixes = KeyIndex(np.uint64, np.uint64, np.uint8)
        self._sources = KeyIndex(np.uint64)  # session << 32 | path id
        self._attributes = KeyIndex(np.uint64)  # AS-path length << 33 | MED + 1
        self._keys = KeyIndex(np.uint64)  # prefix << 32 | source
        self._attribute: Int32 = np.empty(1024, dtype=np.int32)  # by row, -1: withdrawn
        self._next: Int32 = np.empty(
            1024, dtype=np.int32
        )  # by row: the prefix's next row, -1: last
        self._head: Int32 = np.full(1024, NONE, dtype=np.int32)  # by prefix: its first row
        self._linked = 0
        self.announced = 0

    def __len__(self) -> int:
        return self.announced

    @property
    def version(self) -> int:
        return self._journal.version

    def fold(
        self,
        rows: TopicRows,
        now_ms: int,
        config: SteeringConfig,
        account: Account,
        fleet: Fleet | None = None,
    ) -> Turned:
        """Take over the rows of bgp.routes. With `fleet`, routes of sites that its inventory does
        not have are noted (they are kept, and count once the site is there). Returns what is
        damped from now on."""
        batch = read_batch(rows, now_ms, config, self._session, account)
        if not (len(batch) or len(batch.flushes)):
            return NOTHING
        changed, turned = self._apply(batch, account, now_ms, config)
        if fleet is not None:
            self._note_unplaced(batch, fleet, account)
        self._record(np.concatenate((changed, self._prefixes_of(turned))))
        self._tidy()
        return turned

    def release(self, now_ms: int) -> Turned:
        """Damp no longer what has been quiet for long enough; returns it. Before `fold`."""
        turned = self.damping.release(now_ms)
        if turned:
            self._record(self._prefixes_of(turned))
        return turned

    # -- what tables ask

    @property
    def by_id(self) -> Prefixes:
        """(hi, lo, length) by prefix id."""
        return self.prefixes.column(0), self.prefixes.column(1), self.prefixes.column(2)

    def attributes(self) -> tuple[Int64, Int64]:
        """(AS-path length, MED or -1 without) by attribute id."""
        packed = self._attributes.column(0)
        return (packed >> _MED_BITS).astype(np.int64), (packed & _U64((1 << 33) - 1)).astype(
            np.int64
        ) - 1

    def changes_since(self, version: int) -> Int32 | None:
        """Ids of the prefixes whose routes changed after `version` (ascending); None: too many, or
        numbered anew since."""
        return self._journal.since(version)

    def changed_since(self, version: int) -> int | None:
        """How often routes of a prefix changed after `version`; None as for `changes_since`."""
        return self._journal.count_since(version)

    def all_rows(self) -> RouteRows:
        """Every live route."""
        return self._rows(np.flatnonzero(self._attribute[: len(self._keys)] != NONE))

    def parts(self) -> Iterator[tuple[Int32, RouteRows]]:
        """Every live route, about _PART at a time: the ids of some prefixes, dead ones among them,
        and all routes of these. Ids ascend from part to part."""
        key, alive = self._keys.column(0), self._attribute[: len(self._keys)] != NONE
        size = max(1, len(self.prefixes) // (1 + self.announced // _PART))
        for first in range(0, len(self.prefixes), size):
            stop = min(first + size, len(self.prefixes))
            mine = key >= _U64(first) << _HALF
            mine &= key < _U64(stop) << _HALF
            mine &= alive
            yield np.arange(first, stop, dtype=np.int32), self._rows(np.flatnonzero(mine))

    def rows_of(self, prefixes: Int32) -> RouteRows:
        """The live routes of these prefixes (distinct ids)."""
        found: list[npt.NDArray[np.integer]] = []
        at = self._head[prefixes]
        while len(at := at[at != NONE]):
            found.append(at[self._attribute[at] != NONE])
            at = self._next[at]
        return self._rows(np.concatenate(found) if found else np.empty(0, dtype=np.int32))

    def prefixes_of_sites(self, chosen: Bools) -> Int32:
        """Ids of the prefixes with a live route from a site that `chosen` (by site id) marks."""
        rows = self.all_rows()
        return distinct(rows.prefix[chosen[rows.site]])

    def _rows(self, rows: npt.NDArray[np.integer]) -> RouteRows:
        key = self._keys.column(0)[rows]
        source, session = (key & _LOW).astype(np.int64), self._source_session()
        damped = np.zeros(len(rows), np.bool_)
        if self.damping.any:
            damped = self.damping.sessions.suppresses(session)[source]
            damped |= self.damping.routes.suppresses(rows)
        return RouteRows(
            prefix=(key >> _HALF).astype(np.int32),
            site=self._session_site[session][source],
            attribute=self._attribute[rows],
            damped=damped,
        )

    def _prefixes_of(self, turned: Turned) -> Int32:
        """Ids of the prefixes of which a live route is among these; one pass over all routes where
        there are sessions."""
        row = turned.routes[self._attribute[turned.routes] != NONE]
        if len(turned.sessions):
            mine = np.isin(self._source_session(), turned.sessions)
            source = (self._keys.column(0) & _LOW).astype(np.int64)
            live = self._attribute[: len(source)] != NONE
            row = np.concatenate((row, np.flatnonzero(mine[source] & live)))
        found: Int32 = (self._keys.column(0)[row] >> _HALF).astype(np.int32)
        return found

    # -- folding

    def _session(self, site: str, peer: str) -> int:
        """The id of the session of a site with a peer."""
        found = self._sessions.get((site, peer))
        if found is None:
            found = self._sessions[site, peer] = len(self._sessions)
            self._session_site = grown(self._session_site, found + 1)
            self._session_peer = grown(self._session_peer, found + 1)
            self._session_site[found] = self.sites.add(site)
            self._session_peer[found] = self.peers.add(peer)
        return found

    def _source_session(self) -> Int64:
        return (self._sources.column(0) >> _HALF).astype(np.int64)

    def _row_ids(self, batch: Batch) -> Int64:
        """The row of each of the batch's routes; withdrawals make none: -1 where it is unknown."""
        says, row = batch.announce, np.full(len(batch), NONE, dtype=np.int64)
        source = (batch.session.astype(np.uint64) << _HALF) | batch.path_id.astype(np.uint64)
        prefix = self.prefixes.intern(*batch.prefixes, where=says)
        origin = self._sources.intern(source, where=says)
        known = np.flatnonzero((prefix != NONE) & (origin != NONE))
        key = (prefix[known].astype(np.uint64) << _HALF) | origin[known].astype(np.uint64)
        row[known] = self._keys.intern(key, where=says[known])
        self._link()
        return row

    def _link(self) -> None:
        """Hang the new rows into the chains of their prefixes."""
        start, stop = self._linked, len(self._keys)
        if start == stop:
            return
        self._attribute = grown(self._attribute, stop)
        self._next = grown(self._next, stop)
        self._head = grown(self._head, len(self.prefixes), NONE)
        self._attribute[start:stop] = NONE
        rows = np.arange(start, stop, dtype=np.uint64)
        packed = np.sort((self._keys.column(0)[start:] & ~_LOW) | rows)
        prefix, row = (packed >> _HALF).astype(np.int64), (packed & _LOW).astype(np.int32)
        last = np.ones(len(row), dtype=bool)
        last[:-1] = prefix[1:] != prefix[:-1]
        follows = np.empty(len(row), dtype=np.int32)
        follows[:-1] = row[1:]
        follows[last] = self._head[prefix[last]]
        self._next[row] = follows
        first = np.ones(len(row), dtype=bool)
        first[1:] = last[:-1]
        self._head[prefix[first]] = row[first]
        self._linked = stop

    def _apply(
        self, batch: Batch, account: Account, now_ms: int, config: SteeringConfig
    ) -> tuple[Int32, Turned]:
        """Apply the batch; returns the ids of the prefixes that may have changed, and what is
        damped from now on."""
        row = self._row_ids(batch)
        packed_attribute = (batch.as_path_len.astype(np.uint64) << _MED_BITS) | (
            batch.med - MISSING_MED
        ).astype(np.uint64)
        value = np.full(len(batch), NONE, dtype=np.int32)
        value[batch.announce] = self._attributes.intern(packed_attribute[batch.announce])
        # Rows of one key side by side, in offset order.
        known = np.flatnonzero(row != NONE)
        packed = np.sort((row[known].astype(np.uint64) << _HALF) | known.astype(np.uint64))
        at, row = (packed & _LOW).astype(np.int64), (packed >> _HALF).astype(np.int64)
        value, epoch, says = value[at], batch.epoch[at], batch.announce[at]
        first = np.ones(len(row), dtype=bool)
        first[1:] = row[1:] != row[:-1]
        before, epoch_before = np.empty_like(value), np.zeros_like(epoch)
        before[1:], epoch_before[1:] = value[:-1], epoch[:-1]
        before[first], epoch_before[first] = self._attribute[row[first]], 0
        flushed = (epoch > epoch_before) & (before != NONE)
        before[flushed] = NONE
        account.note(Noted.DUPLICATE, _count(says & (value == before)))
        unknown = _count(~says & (before == NONE)) + len(batch) - len(known)
        account.note(Noted.WITHDRAWN_UNKNOWN, unknown)
        each, stood = np.flatnonzero(first), before != NONE
        turned = self.damping.take(
            batch,
            row[each],
            _sums(stood & ~says, each),
            _sums(stood & says & (value != before), each),
            now_ms,
            config.damping,
        )

        last = np.ones(len(row), dtype=bool)
        last[:-1] = first[1:]
        row, value, epoch = row[last], value[last], epoch[last]
        gone = self._flush(batch.flushes, row)
        if len(batch.flushes):
            session = batch.session[at][last]
            ended = (
                np.append(batch.flushes, 0)[np.minimum(session, len(batch.flushes))] > epoch
            ) & (value != NONE)
            value[ended] = NONE
            account.note(Noted.PEER_FLUSH, len(gone) + _count(flushed) + _count(ended))
        held = self._attribute[row]
        self.announced += _count(value != NONE) - _count(held != NONE)
        self._attribute[row] = value
        changed = np.concatenate((row[value != held], gone))
        prefixes: Int32 = (self._keys.column(0)[changed] >> _HALF).astype(np.int32)
        return prefixes, turned

    def _flush(self, flushes: Int64, spared: Int64) -> Int64:
        """Withdraw the routes of all sessions with a flush, but for the rows that the batch itself
        has the last word on; returns the rows. One pass over all routes, however many peers."""
        if not len(flushes):
            return np.empty(0, dtype=np.int64)
        session = self._source_session()
        hit = (session < len(flushes)) & (
            np.append(flushes, 0)[np.minimum(session, len(flushes))] > 0
        )
        source = (self._keys.column(0) & _LOW).astype(np.int64)
        gone = hit[source] & (self._attribute[: len(source)] != NONE)
        gone[spared] = False
        rows = np.flatnonzero(gone)
        self._attribute[rows] = NONE
        self.announced -= len(rows)
        return rows

    def _note_unplaced(self, batch: Batch, fleet: Fleet, account: Account) -> None:
        rows = np.bincount(self._session_site[batch.session[batch.announce]])
        for site in rows.nonzero()[0].tolist():
            at = fleet.sites.get(self.sites.names[site])
            if at == NONE or not fleet.site_alive[at]:
                account.note(Noted.UNPLACED_ROUTE, int(rows[site]))

    # -- housekeeping

    def _record(self, changed: Int32) -> None:
        """Put changed prefixes into the journal."""
        self._journal.put(changed, max(_SPARE, len(self.prefixes) // 4))

    def _tidy(self) -> None:
        """Number anew when more rows are dead than alive; the dead that have a penalty stay."""
        flapping, announced = self.damping.routes, self.announced
        dead, many = len(self._keys) - announced, max(_SPARE, announced)
        if dead <= many or dead - _count(self._attribute[flapping.id] == NONE) <= many:
            return
        kept = self._attribute[: len(self._keys)] != NONE
        kept[flapping.id] = True
        live = np.flatnonzero(kept)
        flapping.renumber(live)
        key = self._keys.column(0)[live]
        prefix, source = (key >> _HALF).astype(np.int64), (key & _LOW).astype(np.int64)
        columns = [column[prefix] for column in self.by_id]
        origin = self._sources.column(0)[source]
        held = self._attribute[live]
        alive = held != NONE
        attribute = self._attributes.column(0)[held[alive]]
        self.generation += 1
        self._journal = Journal(self.version + 1)
        self._number_anew()
        ids = self.prefixes.intern(*columns).astype(np.uint64) << _HALF
        self._keys.intern(ids | self._sources.intern(origin).astype(np.uint64))
        self._link()
        self._attribute[: len(live)][alive] = self._attributes.intern(attribute)
        self.announced = announced


def _sums(marks: Bools, first: Int64) -> Int64:
    """How many are marked of each run that begins at `first`."""
    if not len(first):
        return np.empty(0, np.int64)
    return np.add.reduceat(marks.astype(np.int64), first)


def _count(marks: Bools) -> int:
    return int(np.count_nonzero(marks))
