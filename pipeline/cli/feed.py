"""`edgesteer feed`: publish real routes."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.common import JsonOption, emit, may_take_broker, note, run_async, say, table
from pipeline.cli.steering import load_steering_config
from pipeline.errors import UsageError
from schemas.registry import BGP_ROUTES

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.feeds.compressed import Source
    from pipeline.feeds.peers import PeerRules
    from pipeline.feeds.publisher import Publisher
    from pipeline.feeds.routes import RouteFeed, Rows

#: Records sent at once: enough for full batches, few enough to let Ctrl-C and the bar in.
SEND_RECORDS = 8192
#: How many records of the file are read between two looks at the clock and the waiting records.
LOOK_EVERY = 256
#: When pacing, waits shorter than this are not worth a sleep.
LEAST_WAIT_S = 0.01
DRY_RUN_SITE = "dry-run"

app = typer.Typer(no_args_is_help=True, help="Publish real routes.")


@app.callback()
def feed() -> None:
    """Publish real routes."""


@app.command()
@may_take_broker
def mrt(
    broker: "Callable[[], BrokerSettings]",
    files: Annotated[list[Path], typer.Argument(help="MRT: plain, gzip or bzip2.")],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="PEER=SITE",
            help="The site a BGP peer belongs to: by address, AS number, or '*' for every other.",
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            help="So many times real time, by the timestamps inside. Default: full speed.",
            metavar="FACTOR",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and account, publish nothing, need no broker.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Publish the routes of MRT files, RIB dumps and updates, as their peers' sites learned them.

    Ends with an account: every route element read was announced, withdrawn, or refused for a
    reason. Status 1 when a file cannot be opened, is not MRT, or is cut off; damaged records inside
    are counted and do not stop the reading."""
    from pipeline.feeds.peers import PeerRules

    if speed is not None and not 0 < speed < float("inf"):
        raise UsageError("--speed is a factor above 0")
    if not peer and not dry_run:
        raise UsageError(
            "which site do the peers belong to? --peer ADDRESS=SITE, or --peer '*=SITE'"
        )
    if not peer:
        note(f"no --peer: every peer counts as one of site {DRY_RUN_SITE}")
    rules = PeerRules(peer or [f"*={DRY_RUN_SITE}"])
    settings = None if dry_run else broker()
    ok = run_async(_feed(settings, files, rules, speed, json))
    if not ok:
        raise typer.Exit(1)


async def _feed(
    settings: "BrokerSettings | None",
    files: list[Path],
    rules: "PeerRules",
    speed: float | None,
    json: bool,
) -> bool:
    from pipeline.feeds.publisher import Publisher
    from pipeline.feeds.routes import RouteFeed

    proximity = load_steering_config().proximity

    def routes(partitions_of: Callable[[str], tuple[int, ...]]) -> RouteFeed:
        return RouteFeed(
            rules.site_of,
            partitions_of,
            allow_documentation=proximity.allow_documentation_prefixes,
            hops_max=proximity.as_path_hops_max,
        )

    if settings is None:
        return await _Run(routes(lambda _: (0,)), None, speed).all(files, json)
    regions = await _regions(settings, rules)
    async with Publisher(settings) as publisher:

        def partitions_of(site: str) -> tuple[int, ...]:
            return tuple(publisher.partition(BGP_ROUTES.name, one) for one in regions[site])

        feed = routes(partitions_of)
        return await _Run(feed, publisher, speed).all(files, json)


async def _regions(settings: "BrokerSettings", rules: "PeerRules") -> dict[str, tuple[str, ...]]:
    """Site -> its regions, for every site in the inventory. UsageError where a rule names
    another."""
    from pipeline.feeds.inventory import read_inventory, site_regions

    regions = site_regions(await read_inventory(settings))
    unknown = [site for site in rules.sites if site not in regions]
    if unknown:
        there = ", ".join(sorted(regions)[:50]) or "none; publish it with `edgesteer fleet apply`"
        raise UsageError(f"the inventory has no site {', '.join(unknown)}. It has: {there}")
    return regions


class _Run:
    """One run over all files. `publisher` None: nothing is published."""

    def __init__(
        self, routes: "RouteFeed", publisher: "Publisher | None", speed: float | None
    ) -> None:
        self.routes, self.publisher, self.speed = routes, publisher, speed
        self._sending: asyncio.Task[None] | None = None
        self._began = time.monotonic()

    async def all(self, files: list[Path], json: bool) -> bool:
        """Feed every file; print the account; whether all were read to their end."""
        whole = True
        try:
            for path in files:
                whole &= await self._file(path)
        finally:
            self._close(files, json)
        return whole

    async def _file(self, path: Path) -> bool:
        from pipeline.feeds.compressed import Source
        from pipeline.feeds.mrt import MrtReader

        try:
            source = Source(path)
            reader = MrtReader(self.routes)
            with _bar(source) as advance:
                await self._read(reader.read(source), advance)
        except OSError as error:
            note(f"{path}: {error.strerror or error}")
            return False
        if source.size_bytes and not reader.ending.is_mrt:
            note(f"{path}: not an MRT file ({reader.ending.why or 'no record of a known type'})")
        elif not reader.ending.whole:
            note(f"{path}: not read to its end: {reader.ending.why}")
        return reader.ending.whole and (reader.ending.is_mrt or not source.size_bytes)

    async def _read(self, times: Iterator[int], advance: Callable[[], None]) -> None:
        first_ms: int | None = None
        started = time.monotonic()
        for count, at_ms in enumerate(times):
            if self.speed is not None:
                first_ms = at_ms if first_ms is None else first_ms
                due = started + (at_ms - first_ms) / 1000 / self.speed
                if due - time.monotonic() > LEAST_WAIT_S:
                    await self._send()
                    advance()
                    await asyncio.sleep(due - time.monotonic())
            if count % LOOK_EVERY == 0 and self.routes.waiting >= SEND_RECORDS:
                advance()
                await self._send(wait=False)
        await self._send()
        advance()

    async def _send(self, *, wait: bool = True) -> None:
        """Send what waits. One sending is under way while the next records are read, never two, so
        that the records of a partition stay in order."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            await sending
        taken = self.routes.take()
        if self.publisher is not None and taken:
            self._sending = asyncio.create_task(_publish(self.publisher, taken))
            await asyncio.sleep(0)
            if wait:
                sending, self._sending = self._sending, None
                await sending

    def _close(self, files: list[Path], json: bool) -> None:
        account, seconds = self.routes.account, time.monotonic() - self._began
        if json:
            found: dict[str, Any] = account.to_json()
            found |= {"files": len(files), "seconds": round(seconds, 3)}
            emit(found | {"published": self.publisher is not None})
            return
        rows: list[tuple[str, str]] = [
            ("read", f"{account.read:,}"),
            ("announced", f"{account.announced:,}"),
            ("withdrawn", f"{account.withdrawn:,}"),
        ]
        rows += [
            (f"refused: {name}", f"{account.refused[name]:,}") for name in sorted(account.refused)
        ]
        table(("ROUTE ELEMENTS", "COUNT"), rows, "lr")
        say()
        rows = [("read", f"{account.records:,}"), ("damaged", f"{account.damaged:,}")]
        rows += [(f"skipped: {name}", f"{n:,}") for name, n in sorted(account.skipped.items())]
        rows += [(f"noted: {name}", f"{n:,}") for name, n in sorted(account.noted.items())]
        table(("RECORDS OF THE FILES", "COUNT"), rows, "lr")
        say()
        what = "published" if self.publisher else "would be published"
        rate = account.read / seconds if seconds else 0
        say(f"{account.sent:,} records {what}; {rate:,.0f} elements/s")


async def _publish(publisher: "Publisher", taken: "dict[int, Rows]") -> None:
    for partition, rows in taken.items():
        await publisher.send_rows(BGP_ROUTES.name, partition, rows.keys, rows.values)


@contextmanager
def _bar(source: "Source") -> Iterator[Callable[[], None]]:
    """A progress bar over the bytes of the file, on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(source.path.name, total=source.size_bytes)
        yield lambda: progress.update(task, completed=source.read_bytes)
