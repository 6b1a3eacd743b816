"""An asyncio event loop whose time is a number, and in which processes can be stopped or killed.

Idea (FoundationDB's simulator): everything runs on one thread; nothing waits, time jumps to the
next timer; what is not ordered by the program is ordered by the seed. A process is a mark in the
context of its callbacks: asyncio hands the context on to tasks, timers and wake-ups, so the loop
knows whose turn it would be. One that is paused (SIGSTOP) keeps its callbacks for later; one that
is killed (kill -9) loses them: not even a `finally` runs.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

T = TypeVar("T")
_PROCESS: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)

STEPS_MAX = 3_000_000  # of one run: beyond this it spins


class SimError(AssertionError):
    """A rule does not hold; the message says which."""


class Handle:
    """A callback that waits for its turn, or for its time."""

    __slots__ = ("args", "callback", "cancelled_", "context", "process", "when_")

    def __init__(
        self,
        process: "Process",
        context: contextvars.Context,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        when: float,
    ) -> None:
        self.process, self.context = process, context
        self.callback, self.args, self.when_ = callback, args, when
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.when_


class Process:
    """What lives and dies together. `enter` is called whenever it gets its turn back."""

    def __init__(self, name: str, enter: Callable[[], None] = lambda: None) -> None:
        self.name, self.enter = name, enter
        self.ready: deque[Handle] = deque()
        self.paused = self.dead = False
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)


def _fulfil(future: asyncio.Future[Any], func: Any, args: tuple[Any, ...]) -> None:
    try:
        future.set_result(func(*args))
    except Exception as failure:
        future.set_exception(failure)


class SimLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self, random: Random) -> None:
        self._random, self._now, self._count, self.steps = random, 0.0, 0, 0
        self._timers: list[tuple[float, int, Handle]] = []
        self._runnable: list[Process] = []
        self._running: Process | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self.world = Process("world")

    # what asyncio asks of a loop ----------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(_PROCESS) or self.world
        handle = Handle(process, context, callback, args, self._now)
        self._enqueue(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        if context is None:
            context = contextvars.copy_context()
        handle = Handle(context.get(_PROCESS) or self.world, context, callback, args, when)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """What a thread would do, at some later moment."""
        future = self.create_future()
        self.call_soon(lambda: future.done() or _fulfil(future, func, args))
        return future

    def call_exception_handler(self, context: Any) -> None:
        if not isinstance(context.get("exception"), KafkaError):  # of one that was killed
            raise SimError(f"unhandled: {context}")

    # processes ----------------------------------------------------------------------------------

    def post(self, process: Process, callback: Callable[..., object], *args: Any) -> None:
        """A message reaches a process."""
        self._enqueue(Handle(process, process.context, callback, args, self._now))

    def later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> None:
        """Something happens outside of all processes."""
        self.call_at(self._now + delay_s, callback, *args, context=self.world.context)

    def spawn(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self.create_task(coro, context=process.context)

    def pause(self, process: Process) -> None:
        process.paused = True
        if process in self._runnable:
            self._runnable.remove(process)

    def resume(self, process: Process) -> None:
        process.paused = False
        if process.ready and process not in self._runnable:
            self._runnable.append(process)

    def kill(self, process: Process) -> None:
        self.pause(process)
        process.dead = True
        process.ready.clear()

    def _enqueue(self, handle: Handle) -> None:
        process = handle.process
        if process.dead:
            return
        if not process.ready and not process.paused:
            self._runnable.append(process)
        process.ready.append(handle)

    # running ------------------------------------------------------------------------------------

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Until `coro` (of the world) has ended."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        main = self.spawn(self.world, coro)
        try:
            while not main.done():
                if self._runnable:
                    self._turn()
                elif self._timers:
                    self._jump()
                else:
                    raise SimError("nothing will ever happen any more")
            for task in self._tasks:
                failure = task.exception() if task.done() and not task.cancelled() else None
                if failure is not None and not isinstance(failure, KafkaError):
                    raise failure
            return main.result()
        finally:
            self._bury()
            asyncio._set_running_loop(before)

    def _turn(self) -> None:
        """One callback of some process; inside a process they keep their order."""
        runnable = self._runnable
        at = int(self._random.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[at]
        handle = process.ready.popleft()
        if not process.ready:
            runnable.pop(at)
        if handle.cancelled_:
            return
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise SimError(f"{process.name} spins at {self._now:.3f} s")
        if process is not self._running:
            self._running = process
            process.enter()
        handle.context.run(handle.callback, *handle.args)

    def _jump(self) -> None:
        """To the next timer, and those of the same moment."""
        when, _, handle = heapq.heappop(self._timers)
        if handle.cancelled_ or handle.process.dead:
            return
        self._now = max(self._now, when)
        self._enqueue(handle)
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled_:
                self._enqueue(handle)

    def _bury(self) -> None:
        """What is left of all processes must not wake up in another run."""
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        for task in self._tasks:
            if not task.done():
                with suppress(BaseException):
                    task.get_coro().close()  # type: ignore[union-attr]
        self._tasks.clear()
        self._timers.clear()
        self._runnable.clear()
