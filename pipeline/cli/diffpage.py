"""A diff as one page: no script, no font, nothing from anywhere; well-formed XML as well as HTML.

It is read at three in the morning, on whatever screen: what matters first, then where traffic went
(a picture), who carries it now (bars), and the tables."""

from html import escape
from pathlib import Path

from pipeline.cli.common import si
from pipeline.cli.diffdrawing import BARS, HUES, bars, flows, strain
from pipeline.cli.difftext import OPEN_LOOP, Table, describe, headlines, tables
from pipeline.errors import UsageError
from pipeline.replay.diff import Diff
from pipeline.replay.ranked import paired, ranked
from pipeline.replay.whatif import WhatIf

_HUE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8866", "#44bb99")
assert len(_HUE) == HUES

_STYLE = """
:root { color-scheme: light dark; --back: #fafaf7; --card: #ffffff; --ink: #1d2024; --dim: #676d75;
  --line: #dedfd8; --was: #b3b9c1; --now: #2f6fc4; --bad: #c4321f; --good: #1d7f47; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --card: #1d2024; --ink: #e7e8ea;
  --dim: #9aa1a9; --line: #343940; --was: #565d66; --now: #6aa3ee; --bad: #ff6f5c;
  --good: #5cc98a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 28px 20px 60px; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 0 0 12px; }
p { margin: 4px 0; } .dim { color: var(--dim); fill: var(--dim); }
.ends { display: grid; grid-template-columns: max-content 1fr; gap: 2px 12px; margin: 8px 0 18px; }
.ends b { font-weight: 600; }
section, .answer { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 16px 0; overflow-x: auto; }
.answer { border-left: 6px solid var(--good); } .answer.bad { border-left-color: var(--bad); }
.answer p:first-child { font-weight: 600; font-size: 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.tile b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; }
.tile.bad b { color: var(--bad); } .tile span { color: var(--dim); font-size: 13px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 14px; }
th { text-align: left; color: var(--dim); font-weight: 500; white-space: nowrap; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; } .r { text-align: right; white-space: nowrap; }
svg { display: block; width: 100%; min-width: 720px; height: auto; font-size: 13px; }
text { fill: var(--ink); } text.dim, tspan.dim { fill: var(--dim); }
.band { fill: none; opacity: .45; } .band:hover { opacity: .85; }
rect.node { fill: var(--dim); } rect.lost { fill: var(--bad); } .band.lost { stroke: var(--bad); }
rect.was { fill: var(--was); } rect.now { fill: var(--now); } rect.over { fill: var(--bad); }
rect.gone { fill: none; stroke: var(--line); stroke-dasharray: 4 3; }
line.grid { stroke: var(--line); } line.full { stroke: var(--dim); }
line.target { stroke: var(--ink); stroke-width: 1.5; }
.worse { fill: var(--bad); opacity: .55; } .was-line { fill: var(--was); opacity: .9; }
.key i { display: inline-block; width: 11px; height: 11px; border-radius: 2px;
  margin: 0 5px 0 14px; }
.key i:first-child { margin-left: 0; }
"""


def write_page(path: Path, diff: Diff, top: int, found: WhatIf | None = None) -> None:
    """Write the page to `path`, all of it or nothing."""
    text, part = page(diff, top, found), path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise UsageError(f"--html {path}: cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def page(diff: Diff, top: int, found: WhatIf | None = None) -> str:
    """The whole page."""
    title = "What if" if found is not None else "What changed"
    hues = " ".join(
        f"rect.hue{n} {{ fill: {hue}; }} .band.hue{n} {{ stroke: {hue}; }}"
        for n, hue in enumerate(_HUE)
    )
    ends = "".join(
        f"<b>{name}</b><span>{_text(describe(diff, name))}</span>" for name in ("A", "B")
    )
    body = [
        f"<h1>{title}</h1>",
        f'<div class="ends">{ends}</div>',
        _answer(diff, found),
        _tiles(diff),
        *_pictures(diff, found),
        *(_table(one) for one in tables(diff, top, found)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>edgesteer: {title.lower()}</title><style>{_STYLE}{hues}</style></head>\n"
        f"<body>{chr(10).join(body)}</body></html>\n"
    )


def _answer(diff: Diff, found: WhatIf | None) -> str:
    """What matters, in sentences; the answer first."""
    lines = headlines(diff, found)
    bad = diff.summary()["overloads_made"] > 0
    if found is not None:
        bad, lines = found.harms, [lines[-1], *lines[:-1], OPEN_LOOP]
    told = "".join(f"<p>{_text(line)}</p>" for line in lines)
    return f'<div class="answer{" bad" if bad else ""}">{told}</div>'


def _tiles(diff: Diff) -> str:
    total = diff.summary()
    overflow, unserved = total["overflow_bps"], total["unserved_bps"]
    tiles = [
        (si(total["moved_bps"], "bps"), "moved to another site", False),
        (f"{total['prefixes']['with_moved_traffic']:,}", "prefixes whose traffic moved", False),
        (f"{total['overloads_made']}", "overloads made", total["overloads_made"] > 0),
        (f"{total['overloads_cured']}", "overloads cured", False),
        (si(overflow[1], "bps"), f"without room, {si(overflow[0], 'bps')} before",
         overflow[1] > overflow[0]),
        (si(unserved[1], "bps"), f"served by nobody, {si(unserved[0], 'bps')} before",
         unserved[1] > unserved[0]),
        (f"{total['appliances']}", "appliances changed", False),
    ]  # fmt: skip
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile{" bad" if bad else ""}"><b>{_text(figure)}</b>'
            f"<span>{_text(what)}</span></div>"
            for figure, what, bad in tiles
        )
        + "</div>"
    )


def _pictures(diff: Diff, found: WhatIf | None) -> list[str]:
    moves = ranked(diff, 0)["move"]
    shown = []
    if found is not None:
        drawn = strain(found.compared.over_time.to_dicts(), found.at_ms)
        key = _key(("was", "as it was"), ("bad", "with the change"))
        shown.append(("Too much, over time", key, drawn or "<p>Nothing, at any moment.</p>"))
    shown.append(("Where traffic went", "", flows(moves) or "<p>Nowhere: nothing moved.</p>"))
    sites = paired(diff.sites.head(BARS))
    more = diff.sites.height - len(sites)
    key = _key(("was", "before"), ("now", "after"), ("bad", "above target, no site with room"))
    key += f'<p class="dim">and {more} more sites, which changed less</p>' if more else ""
    shown.append(("Load against capacity", key, bars(sites)))
    return [f"<section><h2>{title}</h2>{key}{drawn}</section>" for title, key, drawn in shown]


def _key(*entries: tuple[str, str]) -> str:
    told = "".join(
        f'<i style="background: var(--{colour})"></i>{_text(text)}' for colour, text in entries
    )
    return f'<p class="key dim">{told}</p>'


def _table(one: Table) -> str:
    sides = ["r" if one.right[at : at + 1] == "r" else "" for at in range(len(one.header))]

    def line(tag: str, cells: list[str]) -> str:
        return "".join(
            f'<{tag} class="{side}">{_text(cell)}</{tag}>'
            if side
            else f"<{tag}>{_text(cell)}</{tag}>"
            for side, cell in zip(sides, cells, strict=True)
        )

    rows = "".join(f"<tr>{line('td', row)}</tr>" for row in one.rows)
    more = one.total - len(one.rows)
    note = f'<p class="dim">and {more:,} more</p>' if more else ""
    return (
        f"<section><h2>{_text(one.title)}</h2><table><thead><tr>{line('th', list(one.header))}"
        f"</tr></thead><tbody>{rows}</tbody></table>{note}</section>"
    )


def _text(text: str) -> str:
    return escape(text, quote=True)
