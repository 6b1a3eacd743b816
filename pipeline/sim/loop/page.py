"""The score as a page: the table and the plots, as HTML by itself or as Markdown for docs/."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.sim.loop.meter import COLUMNS
from pipeline.sim.loop.plots import svg
from pipeline.sim.loop.run import Run
from pipeline.sim.loop.scenario import Scenario
from pipeline.sim.loop.score import Loss, Scores, best_of, losses, shown

#: Behind the list of losses: why they are. Nothing that a command could make.
WHY = "## Why"
_STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1140px; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4;
  font-variant-numeric: tabular-nums; }
td:first-child, th:first-child { text-align: left; } .best { font-weight: 700; }
tr.scenario td { text-align: left; font-weight: 700; padding-top: 1rem; }
.dim { color: #666; } svg { max-width: 100%; height: auto; }
"""


def write_page(
    path: Path, scenarios: Sequence[Scenario], runs: Sequence[Run], scores: Scores, how: str
) -> None:
    """One self-contained HTML file; `how`: the command that makes it again."""
    body = [
        "<h1>Score</h1>",
        f'<p class="dim">Made by <code>{escape(how)}</code>.</p>',
        _table(scenarios, scores),
        svg(scenarios, runs),
    ]
    _write(
        path,
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f"<title>edgesteer: score</title><style>{_STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n",
    )


def _table(scenarios: Sequence[Scenario], scores: Scores) -> str:
    heads = "".join(
        f'<th>{escape(one.title)}<br/><span class="dim">{escape(one.unit)}</span></th>'
        for one in COLUMNS
    )
    rows = [f"<table><tr><th></th>{heads}</tr>"]
    for scenario in scenarios:
        span = len(COLUMNS) + 1
        rows.append(
            f'<tr class="scenario"><td colspan="{span}">{escape(scenario.title)} '
            f'<span class="dim">{escape(scenario.says)}</span></td></tr>'
        )
        best = _best(scores, scenario.name)
        for policy, columns in scores[scenario.name].items():
            cells = "".join(
                f'<td class="{"best" if (policy, one.name) in best else ""}">'
                f"{shown(one, columns[one.name])}</td>"
                for one in COLUMNS
            )
            rows.append(f"<tr><td>{escape(policy)}</td>{cells}</tr>")
    return "".join([*rows, "</table>"])


def write_docs(
    folder: Path, scenarios: Sequence[Scenario], runs: Sequence[Run], scores: Scores, how: str
) -> None:
    """score.md and score.svg; what stands in the former from WHY on was written by hand, and
    stays."""
    head = " | ".join(f"{one.title}, {one.unit}" for one in COLUMNS)
    lines = [
        "# Score",
        "",
        "The plane beside four other policies in a simulated cell in which decisions change the",
        f"load they are measured by. Made by `{how} --docs docs`; the same seed gives the same",
        "page. What the columns mean stands in [meter.py](../pipeline/sim/loop/meter.py), where",
        "each policy comes from at the head of its file in",
        "[policies](../pipeline/sim/loop/policies). The best of a column is bold.",
        "",
        "A scenario is a file like those in [scenarios](../pipeline/sim/loop/scenarios); one of",
        "your own is run by its path: `edgesteer sim score my.toml`.",
        "",
        "![The score over time](score.svg)",
    ]
    for scenario in scenarios:
        best = _best(scores, scenario.name)
        lines += ["", f"## {scenario.title}", "", scenario.says, ""]
        lines += [f"| policy | {head} |", "|---|" + "---:|" * len(COLUMNS)]
        for policy, columns in scores[scenario.name].items():
            cells = [
                f"**{text}**" if (policy, one.name) in best else text
                for one in COLUMNS
                for text in [shown(one, columns[one.name])]
            ]
            lines.append(f"| {policy} | {' | '.join(cells)} |")
    lines += ["", "## Where edgesteer is more than 1 % behind the best", ""]
    lines += [_told(one) for one in losses(scores)] or ["Nowhere."]
    page = folder / "score.md"
    before = page.read_text() if page.exists() else ""
    if WHY in before:
        lines += ["", before[before.index(WHY) :].rstrip("\n")]
    _write(page, "\n".join(lines) + "\n")
    _write(folder / "score.svg", svg(scenarios, runs))


def _told(loss: Loss) -> str:
    column = next(one for one in COLUMNS if one.name == loss.column)
    worst = ", the worst of all" if loss.worst else ""
    return (
        f"- {loss.scenario}: {column.title} {shown(column, loss.ours)}, {loss.by} "
        f"{shown(column, loss.best)} {column.unit}{worst}"
    )


def _best(scores: Scores, scenario: str) -> set[tuple[str, str]]:
    """(policy, column) that are the best."""
    return {
        (policy, one.name)
        for one in COLUMNS
        for policy in best_of(
            one, {name: columns[one.name] for name, columns in scores[scenario].items()}
        )
    }


def _write(path: Path, text: str) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
