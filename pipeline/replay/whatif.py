"""What would have been: the same cuts folded as they were and with changes, and what that makes.

It is an open loop. The plane decides as it would have; the recorded viewers do not react: they
stay where they were, draw what they drew, and report what they reported. So it answers where
demand would have been sent and what would have been too much for it, and not how many sessions
would have broken."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import polars as pl

from pipeline.errors import UsageError
from pipeline.replay.archive import Recording
from pipeline.replay.diff import Diff, diff
from pipeline.replay.fold import Change, Ignored, Step, fold
from pipeline.replay.strain import Compared, Strain, compare
from pipeline.replay.view import View
from pipeline.replay.watch import chained, watched
from pipeline.state.sessionroutes import sessions_of
from pipeline.wire.columns import decode_chunk
from schemas.registry import BGP_ROUTES, FLEET_INVENTORY

NEAR = 3


@dataclass(frozen=True, slots=True)
class WhatIf:
    """`diff`: from as it was to as it would have been at `at_ms`; `compared`: from `from_ms` to
    then; `what`: the change, in words."""

    what: str

    from_ms: int
    at_ms: int
    diff: Diff
    compared: Compared

    @property
    def harms(self) -> bool:
        """Whether the change makes an overload or makes one worse, or leaves demand unserved that
        was served, at any moment."""
        before, after = self.diff.summary()["unserved_bps"]
        return bool(self.compared.worse.height) or after > before


def what_if(
    recording: Recording,
    changes: Sequence[Change],
    what: str,
    from_ms: int,
    at_ms: int,
    progress: Callable[[], None] = lambda: None,
) -> WhatIf:
    """Fold `recording` twice; `progress` is told of every cut."""

    def folded(strain: Strain, chain: Sequence[Change], source: str) -> View:
        def each(step: Step) -> None:
            strain.note(step)
            progress()

        return watched(recording, [at_ms], chained(chain), each).view(at_ms, source)

    before, after = Strain(from_ms), Strain(from_ms)
    name = recording.path.name
    was = folded(before, (), f"{name} as it was")
    would = folded(after, changes, f"{name} {what}")
    return WhatIf(what, from_ms, at_ms, diff(was, would), compare(before, after, at_ms))


def begins_ms(recording: Recording) -> int:
    """When what was asked for begins: the first cut behind the lead-in, of any cell."""
    first = [cell.first_at_ms for cell in recording.manifest.cells if cell.cuts]
    return max(recording.manifest.from_ms, min(first))


# -- names ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Names:
    """What a recording knows by name. `sessions`: (site, peer) that announced routes."""

    regions: set[str] = field(default_factory=set)
    sites: set[str] = field(default_factory=set)
    appliances: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    sessions: set[tuple[str, str]] = field(default_factory=set)

    def check(self, wanted: Iterable[str]) -> None:
        """UsageError for what is neither site, appliance nor link."""
        there = self.sites | self.appliances | self.links
        for name in wanted:
            if name not in there:
                raise UsageError(
                    f"the recording has no site, appliance or link {name!r}; {_near(name, there)}"
                )

    def check_places(self, wanted: Iterable[str]) -> None:
        """UsageError for what is neither site nor region."""
        there = self.sites | self.regions
        for name in wanted:
            if name not in there:
                raise UsageError(
                    f"the recording has no site or region {name!r}; {_near(name, there)}"
                )

    def session(self, text: str) -> tuple[str, str]:
        """SITE:PEER taken apart (a peer may have colons itself). UsageError when it is none."""
        pairs = {f"{site}:{peer}": (site, peer) for site, peer in self.sessions}
        if text not in pairs:
            raise UsageError(
                f"the recording has no routes of SITE:PEER {text!r}; {_near(text, pairs)}"
            )
        return pairs[text]


def names_of(recording: Recording, *, sessions: bool) -> Names:
    """What the inventory of a recording names (and with `sessions` its routes): in the state that
    it begins with and in the records that follow."""
    names = Names()
    for span in recording.manifest.cells:
        for step in fold(recording, span, Ignored()):
            fleet = step.cell.fleet
            names.regions |= set(fleet.regions.names)
            names.sites |= set(fleet.sites.names)
            names.appliances |= set(fleet.appliances.names)
            names.links |= set(fleet.links.names)
            names.sessions |= set(sessions_of(step.cell.routes))
            break
        _from_records(recording, span.partition, names)
        if sessions:
            for frames in _decoded(recording, BGP_ROUTES.name, span.partition):
                if (routes := frames.get("Route")) is not None:
                    names.sessions |= set(routes.select("site", "peer").unique().iter_rows())
    return names


def _from_records(recording: Recording, partition: int, names: Names) -> None:
    for frames in _decoded(recording, FLEET_INVENTORY.name, partition):
        for record, found in (
            ("Region", names.regions),
            ("Site", names.sites),
            ("Appliance", names.appliances),
        ):
            if record in frames:
                found |= set(frames[record].get_column(record.lower()))
        if "Site" in frames:
            links = frames["Site"].get_column("links").explode().drop_nulls()
            names.links |= set(links.struct.field("link"))


def _decoded(recording: Recording, topic: str, partition: int) -> Iterator[dict[str, pl.DataFrame]]:
    for frame in recording.frames(topic, partition):
        values, offsets = frame.get_column("value").to_list(), frame.get_column("offset")
        keys = frame.get_column("key").to_list()
        yield decode_chunk(topic, values, offsets.to_numpy(), keys).frames


def _near(name: str, there: Iterable[str]) -> str:
    """What may have been meant."""
    names = sorted(there)
    close = get_close_matches(name, names, n=NEAR)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {names[0]}, for one" if names else "there are none at all"
