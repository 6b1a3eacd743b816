"""The processes of a demo: started, restarted when they die, ended, and only those.

Every child gets a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which
then ends them in order. Their output goes to files in the demo's folder.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RESTART_AFTER_S = 0.5
PATIENCE_S = 12.0


class Child:
    """One process, `edgesteer ARGS`, its output in `log`."""

    def __init__(
        self, name: str, args: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        self._argv = [sys.executable, "-m", "pipeline.cli.main", *args]
        self._env = {**os.environ, **(env or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def wait(self) -> int:
        """Until it ends; its exit status, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, insist after PATIENCE_S; its exit status."""
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return await process.wait()


class Supervisor:
    """Keeps children alive. On the embedded broker nobody takes a dead worker's place
    (docs/adr/0018): it must come back itself, under the same static id."""

    def __init__(self, children: Sequence[Child], say: Callable[[str], None]) -> None:
        self.children = list(children)
        self.restarts = 0
        self._say = say
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for child in self.children:
            await child.start()
            self._tasks.append(asyncio.create_task(self._keep(child)))

    async def _keep(self, child: Child) -> None:
        while True:
            status = await child.wait()
            self.restarts += 1
            self._say(f"{child.name} ended with status {status}; restarting it (log: {child.log})")
            await asyncio.sleep(RESTART_AFTER_S)
            await child.start()

    async def stop(self) -> list[int]:
        """End all of them together; their exit statuses."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return list(await asyncio.gather(*(child.stop() for child in self.children)))
