"""Pictures of a diff as inline SVG: where traffic went, load against capacity, strain over time.

Nothing but shapes with classes: colours are the page's, so that light and dark are its affair too.
Every name is escaped on its way in; what a shape stands for is in its <title>."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from pipeline.cli.common import iso, si
from pipeline.replay.ranked import Row

WIDTH = 960
NOWHERE = "(nowhere)"
#: Sites shown on one side of the flows; the others are one node together.
NODES = 14
#: Sites with bars.
BARS = 32
#: Letters of a name that are shown.
LETTERS = 16
#: Hues of the page.
HUES = 8

_NODE, _GAP, _PITCH, _LABEL = 12, 10, 19, 190
_BAR, _ROW, _FIGURES = 9, 32, 275
_RATIO_MAX, _RATIO_MIN = 2.0, 1.1


def flows(moves: Sequence[Row]) -> str:
    """Which sites lost traffic to which: bands as wide as what moved. Empty when nothing did."""
    total = sum(move["moved_bps"] for move in moves)
    if not total:
        return ""
    sides = [_nodes(moves, way) for way in ("from", "to")]
    bands = Counter[tuple[str, str]]()
    for move in moves:
        pair = [_shown(move[way], nodes) for way, nodes in zip(("from", "to"), sides, strict=True)]
        bands[pair[0], pair[1]] += move["moved_bps"]
    scale = 340 / total
    spots = [_stack(nodes, scale) for nodes in sides]
    height = max(end for _, end in spots) + 10
    hue = {name: number % HUES for number, name in enumerate(sides[0])}
    left, right = _LABEL, WIDTH - _LABEL - _NODE
    used: list[dict[str, float]] = [{}, {}]
    parts = []
    for (source, target), bps in sorted(
        bands.items(), key=lambda one: (list(sides[0]).index(one[0][0]), -one[1])
    ):
        width, ends = bps * scale, []
        for side, name in enumerate((source, target)):
            begin = used[side].get(name, 0.0)
            used[side][name] = begin + width
            ends.append(spots[side][0][name] + begin + width / 2)
        middle = (left + right) / 2
        kind = "lost" if target == NOWHERE else f"hue{hue[source]}"
        parts.append(
            f'<path class="band {kind}" stroke-width="{max(width, 0.75):.2f}" '
            f'd="M{left + _NODE},{ends[0]:.1f} C{middle:.0f},{ends[0]:.1f} {middle:.0f},'
            f'{ends[1]:.1f} {right},{ends[1]:.1f}"><title>{_text(source)} to {_text(target)}: '
            f"{si(bps, 'bps')}</title></path>"
        )
    for side, x in ((0, left), (1, right)):
        for name, bps in sides[side].items():
            tall, y = max(bps * scale, 1.5), spots[side][0][name]
            place = f'x="{x - 8}" text-anchor="end"' if side == 0 else f'x="{x + _NODE + 8}"'
            kind = "lost" if name == NOWHERE else f"hue{hue[name]}" if side == 0 else "node"
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y:.1f}" width="{_NODE}" height="{tall:.1f}"/>'
                f'<text {place} y="{y + tall / 2 + 4:.1f}">{_label(name)} '
                f'<tspan class="dim">{si(bps, "bps")}</tspan></text>'
            )
    return _svg(height, parts, "Traffic that moved, from the sites on the left to the right")


def _nodes(moves: Sequence[Row], way: str) -> dict[str, int]:
    """Site -> bits/s, the largest first, what is beyond NODES as one."""
    sums = Counter[str]()
    for move in moves:
        sums[move[way] or NOWHERE] += move["moved_bps"]
    ranked = sorted(sums.items(), key=lambda one: (-one[1], one[0]))
    nodes = dict(ranked[:NODES])
    if rest := ranked[NODES:]:
        nodes[f"{len(rest)} other sites"] = sum(bps for _, bps in rest)
    return nodes


def _shown(site: str | None, nodes: dict[str, int]) -> str:
    name = site or NOWHERE
    return name if name in nodes else list(nodes)[-1]


def _stack(nodes: dict[str, int], scale: float) -> tuple[dict[str, float], float]:
    """Where each node begins, and where the last one ends; names must not lie on one another."""
    y, spots = 10.0, {}
    for name, bps in nodes.items():
        spots[name] = y
        y += max(bps * scale + _GAP, _PITCH)
    return spots, y


def bars(sites: Sequence[Row]) -> str:
    """Load of each site as part of its capacity, before above after; a tick is the target, what is
    too much is marked. Rows as of `ranked(...)["site"]`."""
    if not sites:
        return ""
    ratios = [_ratio(one, end) for one in sites for end in (0, 1)]
    most = min(max(_RATIO_MIN, *ratios), _RATIO_MAX)
    unit = (WIDTH - _LABEL - _FIGURES) / most
    height, parts = 30 + _ROW * len(sites), []
    for percent in range(0, int(most * 100) + 1, 25):
        x = _LABEL + percent / 100 * unit
        kind = "full" if percent == 100 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="{height}"/>'
            f'<text class="dim" x="{x:.1f}" y="14" text-anchor="middle">{percent} %</text>'
        )
    for number, one in enumerate(sites):
        y = 28 + _ROW * number
        parts.append(
            f'<text x="{_LABEL - 10}" y="{y + 14}" text-anchor="end">{_label(one["site"])}</text>'
        )
        for end, kind in ((0, "was"), (1, "now")):
            parts.append(_bar(one, end, kind, y + (_BAR + 2) * end, unit, most))
        loads = [si(one["load_bps"][end] or 0, "bps") for end in (0, 1)]
        capacity = one["capacity_bps"][1]
        of = f"of {si(capacity, 'bps')}" if capacity else "no capacity"
        parts.append(
            f'<text x="{WIDTH - _FIGURES + 10}" y="{y + 14}">{loads[0]} &#8594; {loads[1]} '
            f'<tspan class="dim">{of}</tspan></text>'
        )
    return _svg(height + 6, parts, "Load of sites as part of their capacity, before and after")


def _ratio(site: Row, end: int) -> float:
    load, capacity = site["load_bps"][end] or 0, site["capacity_bps"][end] or 0
    return load / capacity if capacity else 0.0


def _bar(site: Row, end: int, kind: str, y: float, unit: float, most: float) -> str:
    ratio = min(_ratio(site, end), most)
    capacity = site["capacity_bps"][end] or 0
    if not capacity:
        return f'<rect class="gone" x="{_LABEL}" y="{y}" width="{unit:.1f}" height="{_BAR}"/>'
    over = (site["overflow_bps"][end] or 0) / capacity
    inside = max(ratio - over, 0.0)
    target = _LABEL + (site["target_bps"][end] or 0) / capacity * unit
    what = f"{_text(site['site'])} {'before' if end == 0 else 'after'}: {ratio * 100:.1f} %"
    parts = [
        f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{inside * unit:.1f}" height="{_BAR}">'
        f"<title>{what}</title></rect>",
        f'<line class="target" x1="{target:.1f}" x2="{target:.1f}" y1="{y - 1}" '
        f'y2="{y + _BAR + 1}"/>',
    ]
    if ratio > inside:
        x = _LABEL + inside * unit
        wide = (ratio - inside) * unit
        parts.insert(
            1, f'<rect class="over" x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{_BAR}"/>'
        )
    return "".join(parts)


def strain(times: Sequence[Row], until_ms: int) -> str:
    """What was too much at each moment, as it was and with the change; empty when nothing was.
    Rows as of `Compared.over_time`."""
    series = {
        end: [one[f"overflow_{end}"] + one[f"unserved_{end}"] for one in times] for end in "ab"
    }
    most = max((max(values, default=0) for values in series.values()), default=0)
    if not most:
        return ""
    begin, height, base = times[0]["at_ms"], 190, 160
    wide = WIDTH - _LABEL - 20
    at = [(one["at_ms"] - begin) / max(until_ms - begin, 1) * wide + _LABEL for one in times]
    parts = [f'<line class="grid" x1="{_LABEL}" x2="{WIDTH - 20}" y1="{base}" y2="{base}"/>']
    for end, kind in (("b", "worse"), ("a", "was-line")):
        points = [f"M{_LABEL},{base}"]
        for x, value in zip(at, series[end], strict=True):
            points.append(f"H{x:.1f} V{base - value / most * (base - 20):.1f}")
        points.append(f"H{_LABEL + wide} V{base} Z")
        parts.append(f'<path class="{kind}" d="{" ".join(points)}"/>')
    parts += [
        f'<text class="dim" x="{_LABEL - 10}" y="26" text-anchor="end">{si(most, "bps")}</text>',
        f'<text class="dim" x="{_LABEL - 10}" y="{base}" text-anchor="end">0</text>',
        f'<text class="dim" x="{_LABEL}" y="{height - 8}">{iso(begin)}</text>',
        f'<text class="dim" x="{WIDTH - 20}" y="{height - 8}" text-anchor="end">'
        f"{iso(until_ms)}</text>",
    ]
    return _svg(height, parts, "What was too much over time")


def _svg(height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{_text(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _label(name: str) -> str:
    """A name where there is room for LETTERS, whole in its title."""
    if len(name) <= LETTERS:
        return _text(name)
    return f"<title>{_text(name)}</title>{_text(name[: LETTERS - 1])}&#8230;"


def _text(name: str) -> str:
    return escape(name, quote=True)
