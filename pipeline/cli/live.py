"""The live terminal view of a running plane, and the plain lines for where there is no terminal.

Both are told three things: `progress` (what is being started or stopped), `apply` (one decoded
record of a topic) and `refresh` (now is a good time to draw). What they show comes from the topics
alone, by way of DemoState.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.cli.common import iso, note, say, si
from pipeline.cli.demostate import CellView, DemoState, SiteView

_BAR = 10
_NAME = 13
_VERDICTS = 8
#: What the fixed parts take of the terminal's height; sites get the rest.
_FIXED_LINES = 12
_STATE_STYLE = {
    "UP": "green",
    "PROBATION": "cyan",
    "FILLING": "cyan",
    "DRAINING": "yellow",
    "SATURATED": "yellow",
    "STALE": "magenta",
    "DOWN": "red",
}


class LiveView:
    """Draws in place; a context manager that leaves the last picture on the screen."""

    def __init__(self, console: Console | None = None, hint: str = "") -> None:
        self.state = DemoState()
        self.hint = hint
        self._progress = "starting"
        self._began_s = time.monotonic()
        self._console = console or Console(stderr=True)
        self._live = Live(self, console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def progress(self, text: str) -> None:
        """Say what is being done."""
        self._progress = text
        self.refresh()

    def apply(self, topic: str, partition: int, record: Mapping[str, Any]) -> None:
        """Take one record in; shown at the next refresh."""
        self.state.apply(topic, record)

    def refresh(self) -> None:
        """Draw."""
        self._live.refresh()

    def __rich__(self) -> RenderableType:
        return self.render()

    def render(self) -> RenderableType:
        """The picture as it is now, for the console's size."""
        state = self.state
        if not state.cells:
            return Panel(Text(self._progress), title="edgesteer", title_align="left")
        width, height = self._console.size
        fixed = _FIXED_LINES + min(len(state.verdicts), _VERDICTS)
        columns = 2 if width >= 110 else 1
        rows = max(height - fixed - -(-len(state.cells) // 4), 3)
        return Panel(
            Group(
                self._head(),
                _cells(state.cells),
                Text(),
                _sites(state.sites(), rows, columns),
                _states(state.appliances_by_state()),
                _dead_letters(state),
                Text(),
                _verdicts(list(state.verdicts)[-_VERDICTS:]),
                Text(self.hint, style="dim"),
            ),
            title=f"edgesteer: {self._progress}",
            title_align="left",
        )

    def _head(self) -> Text:
        state = self.state
        return Text.assemble(
            (f"{state.rows_per_s:,.0f}", "bold"),
            " records/s in, ",
            (f"{state.rows:,}", "bold"),
            " so far, ",
            (f"{state.prefixes:,}", "bold"),
            f" prefixes, {state.cuts:,} cuts, "
            f"{time.monotonic() - self._began_s:,.0f} s since the start",
        )


def _cells(cells: Mapping[int, CellView]) -> Table:
    grid = Table.grid(padding=(0, 3))
    texts = [
        Text.assemble(
            f"cell {number} ",
            (f"cut {cell.cut}", "bold"),
            (f" {cell.behind_ms} ms", "green" if cell.behind_ms < 500 else "red"),
        )
        for number, cell in sorted(cells.items())
    ]
    for start in range(0, len(texts), 4):
        grid.add_row(*texts[start : start + 4])
    return grid


def _sites(sites: list[SiteView], rows: int, columns: int) -> RenderableType:
    if not sites:
        return Text("no site has weights yet", style="dim")
    shown = sites[: rows * columns]
    grid = Table.grid(padding=(0, 2), expand=True)
    for _ in range(columns):
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for row in range(min(rows, len(shown))):
        grid.add_row(*(_site(each) for each in shown[row::rows]))
    left = len(sites) - len(shown)
    return Group(grid, Text(f"and {left} sites less busy", style="dim")) if left else grid


def _site(site: SiteView) -> Text:
    use = site.utilisation
    full = round(min(use, 1.0) * _BAR)
    style = "green" if use < 0.8 else "yellow" if use < 0.95 else "red"
    text = Text.assemble(
        f"{site.site[:_NAME]:<{_NAME}} ",
        ("█" * full, style),
        ("░" * (_BAR - full), "dim"),
        f" {use:>4.0%} {si(site.egress_bps, 'bps'):>10}",
    )
    for state, count in site.states.items():
        if state != "UP":
            text.append(f" {count} {state.lower()}", _STATE_STYLE.get(state, ""))
    return text


def _states(states: Mapping[str, int]) -> Text:
    text = Text("appliances ")
    for state, count in states.items():
        text.append(f" {count} {state.lower()} ", _STATE_STYLE.get(state, ""))
    return text


def _dead_letters(state: DemoState) -> Text:
    text = Text(f"dead letters  {state.dead_letters.total():,}")
    for reason, count in sorted(state.dead_letters.items(), key=lambda one: (-one[1], one[0]))[:5]:
        text.append(f"  {reason} {count:,}", "dim")
    return text


def _verdicts(verdicts: list[dict[str, Any]]) -> RenderableType:
    if not verdicts:
        return Text("no change of mind yet", style="dim")
    grid = Table.grid(padding=(0, 2))
    for each in verdicts:
        change = Text.assemble(
            f"{each['from_state'].lower() or '-'} -> ",
            (each["to_state"].lower() or "-", _STATE_STYLE.get(each["to_state"], "bold")),
        )
        at = iso(each["at_ms"])[11:19]
        detail = Text(each["detail"], style="dim", overflow="ellipsis", no_wrap=True)
        grid.add_row(at, each["entity"], change, each["reason"], detail)
    return grid


class PlainView:
    """One line now and then, for pipes and continuous integration; `every_s` seconds apart, by
    `tell` (stdout; stderr where stdout is for JSON)."""

    def __init__(
        self, every_s: float = 5.0, hint: str = "", tell: Callable[[str], None] = say
    ) -> None:
        self._tell = tell
        self.state = DemoState()
        self.hint = hint
        self._every_s, self._next_s = every_s, 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def progress(self, text: str) -> None:
        """Say what is being done, on stderr."""
        note(text)

    def apply(self, topic: str, partition: int, record: Mapping[str, Any]) -> None:
        """Take one record in."""
        self.state.apply(topic, record)

    def refresh(self) -> None:
        """Print a line if it is time for one and there is something to say."""
        now_s = time.monotonic()
        if self.state.cells and now_s >= self._next_s:
            if not self._next_s and self.hint:
                note(self.hint)
            self._next_s = now_s + self._every_s
            self._tell(self.state.plain_line())
