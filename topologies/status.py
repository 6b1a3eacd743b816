"""What a worker answers over HTTP, on loopback unless told otherwise: /metrics, /healthz,
/readyz."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from topologies.metrics import REGISTRY

#: A cell that leads folds a cut a second; longer than this without any is not healthy.
STILL_AFTER_S = 15.0


class Status:
    """The server. `readiness` tells partition -> phase, `leading` everywhere meaning ready;
    `stalled` tells what has stood still for longer than so many seconds."""

    def __init__(
        self,
        host: str,
        port: int,
        readiness: Callable[[], dict[int, str]],
        stalled: Callable[[float], list[str]],
    ) -> None:
        self.host, self.port = host, port
        self._readiness, self._stalled = readiness, stalled
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> int:
        """Listen; returns the port (a free one where 0 was asked for)."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self.port

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        body = generate_latest(REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def _healthz(self, request: web.Request) -> web.Response:
        still = self._stalled(STILL_AFTER_S)
        return web.json_response({"ok": not still, "still": still}, status=503 if still else 200)

    async def _readyz(self, request: web.Request) -> web.Response:
        cells = self._readiness()
        ready = bool(cells) and all(phase == "leading" for phase in cells.values())
        body = {"ready": ready, "cells": {str(p): phase for p, phase in cells.items()}}
        return web.json_response(body, status=200 if ready else 503)
