"""What happened in a run, for whoever has to understand it."""

from collections import deque
from typing import Any

LINES = 120


class Trace:
    """The last lines; they are put into words only when somebody asks."""

    def __init__(self, now: Any) -> None:
        self._now = now
        self._lines: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=LINES)

    def __call__(self, who: str, what: str, *details: Any) -> None:
        self._lines.append((self._now(), who, what, details))

    def text(self) -> str:
        return "\n".join(
            f"{at:9.3f} {who:<9} {what} {' '.join(map(str, details))}"
            for at, who, what, details in self._lines
        )


class TraceLog:
    """Stands in for a module's structlog logger."""

    def __init__(self) -> None:
        self.trace: Any = lambda *_: None
        self.who: Any = lambda: ""

    def _line(self, event: str, **fields: Any) -> None:
        self.trace(self.who(), event, *(f"{name}={value}" for name, value in fields.items()))

    debug = info = warning = error = _line


class Silence:
    """Swallows whatever is done to it: stands in for metrics."""

    def __getattr__(self, name: str) -> "Silence":
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "Silence":
        return self
