"""One worker process: puts the rooms together, runs until it is told to stop, exits with a reason.

`faust.Worker` is not used: it takes over logging and signals, and its web server listens on
0.0.0.0 (docs/adr/0003). Exit status: 0 after SIGTERM or SIGINT, 1 when something failed: a
supervisor restarts it, and the log tells the new process everything.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from pipeline.config import SteeringConfig
from pipeline.errors import EdgesteerError
from topologies.app import CELLS_TABLE, AppOptions, build_app, changelog_left
from topologies.cells import STALLED_AFTER_S, Cells
from topologies.clock import Clock
from topologies.configs import Configs
from topologies.lag import Lag
from topologies.outputs import Outputs
from topologies.publishing import Publishing
from topologies.readback import Readback
from topologies.snapshots import EVERY_CUTS, Snapshots
from topologies.status import Status

log = structlog.get_logger("edgesteer.worker")

STOP_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """`name`: who writes the cuts (unique among live workers); `load_config`: read again on
    SIGHUP."""

    app: AppOptions
    name: str
    load_config: Callable[[], SteeringConfig]
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    tick_ms: int = 1000
    snapshot_every_cuts: int = EVERY_CUTS
    stalled_after_s: float = STALLED_AFTER_S


async def run_worker(options: WorkerOptions) -> int:
    """Run until SIGTERM, SIGINT or a failure; the exit status."""
    os.environ["RUST_BACKTRACE"] = (
        "0"  # bad input makes polars' reader panic (caught): one line each
    )
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def on_failure(reason: BaseException) -> None:
        if not failed.done():
            failed.set_result(reason)

    clock = Clock(options.tick_ms)
    client_kwargs = options.app.broker.client_kwargs()
    outputs, readback = Outputs(client_kwargs), Readback(client_kwargs)
    configs = Configs(options.load_config(), outputs, readback)
    snapshots = Snapshots(
        client_kwargs,
        readback,
        options.snapshot_every_cuts,
        commits=options.app.instance_id is None,
    )
    cells = Cells(
        options.app.partitions,
        writer=options.name,
        clock=clock,
        configs=configs,
        publishing=Publishing(outputs, readback, clock),
        snapshots=snapshots,
        on_failure=on_failure,
        stalled_after_s=options.stalled_after_s,
    )
    status = Status(options.metrics_host, options.metrics_port, cells.readiness, cells.stalled)
    await outputs.start()
    await readback.start()
    await snapshots.start()
    port = await status.start()
    log.info("worker started", name=options.name, metrics=f"http://{status.host}:{port}/metrics")
    _reload_on_hangup(configs, options)
    watch = Lag(cells, readback, options.stalled_after_s, on_failure).watch()
    lag = _fatal_task(watch, on_failure, "lag")
    try:
        return await _run_app(options, cells, snapshots, failed)
    finally:
        lag.cancel()
        await _in_time(cells.stop(), "cells")
        await asyncio.gather(
            _in_time(status.stop(), "metrics"),
            _in_time(snapshots.stop(), "snapshots"),
            _in_time(readback.stop(), "readback"),
            _in_time(outputs.stop(), "outputs"),
        )


async def _run_app(
    options: WorkerOptions,
    cells: Cells,
    snapshots: Snapshots,
    failed: asyncio.Future[BaseException],
) -> int:
    app = build_app(options.app, cells)
    cells.consumer = snapshots.consumer = app.consumer
    snapshots.table = app.tables[CELLS_TABLE]
    cells.changelog_left = lambda: changelog_left(app)
    stop = _stop_signal()
    starting = _fatal_task(app.start(), cells.on_failure, "start")
    crashed = asyncio.create_task(app.wait_until_stopped())
    watching = _fatal_task(cells.watch(), cells.on_failure, "watch")
    over: set[asyncio.Future[Any]] = {stop, failed, crashed}
    await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
    reason = failed.result() if failed.done() else app.crash_reason
    await _in_time(app.stop(), "Faust")
    for task in (starting, crashed, watching):
        task.cancel()
    await asyncio.gather(starting, crashed, watching, return_exceptions=True)
    if reason is not None:
        log.error("worker failed", reason=repr(reason))
        return 1
    log.info("worker stopped")
    return 0


def _fatal_task(
    work: Coroutine[Any, Any, None], on_failure: Callable[[BaseException], None], name: str
) -> asyncio.Task[None]:
    """A task whose failure is the worker's."""

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            on_failure(failure)

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(report)
    return task


async def _in_time(stopping: Coroutine[Any, Any, None], what: str) -> None:
    """A broker that is gone need not be waited for: nothing counts that it did not acknowledge."""
    try:
        async with asyncio.timeout(STOP_PATIENCE_S):
            await stopping
    except TimeoutError:
        log.warning("did not stop in time", what=what, seconds=STOP_PATIENCE_S)


def _stop_signal() -> asyncio.Future[None]:
    """Done at the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def on_signal() -> None:
        if not stop.done():
            stop.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _reload_on_hangup(configs: Configs, options: WorkerOptions) -> None:
    """SIGHUP: read the configuration again; one that is wrong leaves the present one in force."""

    def reload() -> None:
        try:
            config = options.load_config()
        except EdgesteerError as error:
            log.error("configuration not reloaded", reason=str(error))
            return
        configs.replace(config)
        log.info("configuration reloaded", hash=configs.current_hash)

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
