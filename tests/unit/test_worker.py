"""How a worker ends."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import NodeNotReadyError

import topologies.worker
from topologies.app import CELLS_TABLE
from topologies.worker import _run_app


class App:
    """Faust's app, as far as a worker sees it, whose start fails: Faust itself tells nobody."""

    consumer = None
    crash_reason = None

    def __init__(self, failure: Exception) -> None:
        self.tables = {CELLS_TABLE: None}
        self._failure = failure
        self.stopped = False

    async def start(self) -> None:
        raise self._failure

    async def wait_until_stopped(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True


class Cells:
    def __init__(self, failed: asyncio.Future[BaseException]) -> None:
        self.on_failure = failed.set_result

    async def watch(self) -> None:
        await asyncio.Event().wait()


async def test_a_worker_that_cannot_start_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = App(NodeNotReadyError("node id 2"))
    monkeypatch.setattr(topologies.worker, "build_app", lambda options, cells: app)
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    nothing = cast(Any, SimpleNamespace(app=None))
    async with asyncio.timeout(5):
        status = await _run_app(nothing, cast(Any, Cells(failed)), nothing, failed)
    assert status == 1
    assert app.stopped
    assert "NodeNotReadyError" in capsys.readouterr().out
