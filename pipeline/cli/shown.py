"""What `diff` and `whatif` share: options, and the end of their work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipeline.replay.diff import Diff
    from pipeline.replay.whatif import WhatIf

HtmlOption = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write it as one page that needs nothing else."),
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="So many rows of each table.")]


def show(
    diff: "Diff", top: int, html: Path | None, found: "WhatIf | None" = None, *, json: bool
) -> None:
    """Print a diff, and write its page where one is asked for."""
    from pipeline.cli.difftext import emit_diff, tell_diff

    if html is not None:
        from pipeline.cli.diffpage import write_page

        write_page(html, diff, top, found)
    (emit_diff if json else tell_diff)(diff, top, found)
