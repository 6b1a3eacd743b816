"""The score over time, drawn: a row for each scenario, a line for each policy, as one SVG.

Nothing is drawn by a script and nothing comes from elsewhere, so that a page or a README can hold
it. Lines are means over TRACE_S, or more where a panel has not that many points; the height is the
square root of the value, so that small and large can be seen together; the bar at the top of a
panel is the time of the fault.
"""

from collections.abc import Sequence
from html import escape
from math import sqrt
from statistics import fmean

from pipeline.sim.loop.meter import Trace
from pipeline.sim.loop.run import Run
from pipeline.sim.loop.scenario import Scenario

#: Colours that differ in lightness too, ours the strongest (Okabe and Ito 2008).
COLOURS = {
    "edgesteer": "#D55E00",
    "nearest": "#999999",
    "availability": "#0072B2",
    "detour": "#009E73",
    "two_choices": "#CC79A7",
}
_WIDE, _TALL, _LEFT, _GAP, _TOP = 296, 92, 44, 26, 62
_TITLE = 22
_POINTS = 148  # of a line: two pixels each
_PANELS = (
    ("harmed", "viewers without a seat or stalled, %"),
    ("overloaded", "overloaded sites"),
    ("moved", "demand moved, % a minute"),
)


def svg(scenarios: Sequence[Scenario], runs: Sequence[Run]) -> str:
    """The whole picture."""
    policies = list(dict.fromkeys(one.policy for one in runs))
    width = _LEFT + len(_PANELS) * (_WIDE + _GAP + _LEFT)
    height = _TOP + len(scenarios) * (_TALL + _GAP + _TITLE)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _key(policies),
    ]
    for column, (_, title) in enumerate(_PANELS):
        x = _LEFT + column * (_WIDE + _GAP + _LEFT)
        parts.append(f'<text x="{x}" y="{_TOP - 12}" fill="#555">{escape(title)}</text>')
    for row, scenario in enumerate(scenarios):
        y = _TOP + row * (_TALL + _GAP + _TITLE)
        parts.append(
            f'<text x="{_LEFT}" y="{y + 12}" font-weight="bold">{escape(scenario.title)}</text>'
        )
        mine = [one for one in runs if one.scenario == scenario.name]
        for column, (series, _) in enumerate(_PANELS):
            x = _LEFT + column * (_WIDE + _GAP + _LEFT)
            parts.append(_panel(scenario, mine, series, x, y + _TITLE))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _key(policies: Sequence[str]) -> str:
    parts, x = [], _LEFT
    for name in policies:
        parts.append(f'<rect x="{x}" y="14" width="14" height="4" fill="{COLOURS[name]}"/>')
        parts.append(f'<text x="{x + 19}" y="20">{escape(name)}</text>')
        x += 32 + 7 * len(name)
    return "".join(parts)


def _panel(scenario: Scenario, runs: Sequence[Run], series: str, x: int, y: int) -> str:
    values = {one.policy: _series(one.trace, series) for one in runs}
    top = _round_up(max((max(one, default=0.0) for one in values.values()), default=0.0))
    parts = [
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_TALL}" fill="none" stroke="#ddd"/>',
        f'<text x="{x - 5}" y="{y + 9}" text-anchor="end" fill="#555">{top:g}</text>',
        f'<text x="{x - 5}" y="{y + _TALL}" text-anchor="end" fill="#555">0</text>',
        f'<text x="{x + _WIDE}" y="{y + _TALL + 13}" text-anchor="end" fill="#555">'
        f"{scenario.length_s // 60} min</text>",
    ]
    for fault in scenario.faults:
        begin, end = (_WIDE * at / scenario.length_s for at in (fault.from_s, fault.to_s))
        parts.append(
            f'<rect x="{x + begin:.1f}" y="{y}" width="{end - begin:.1f}" height="3" '
            f'fill="#333" opacity="0.6"/>'
        )
    for one in reversed(runs):  # ours last, on top
        points = " ".join(
            f"{x + _WIDE * second / scenario.length_s:.0f},"
            f"{y + _TALL * (1 - sqrt(min(value / top, 1))):.1f}"
            for second, value in _thinned(one.trace.second, values[one.policy])
        )
        stroke = 2 if one.policy == "edgesteer" else 1.2
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLOURS[one.policy]}" '
            f'stroke-width="{stroke}"><title>{escape(one.policy)}</title></polyline>'
        )
    return "".join(parts)


def _series(trace: Trace, name: str) -> list[float]:
    found: list[float] = getattr(trace, name)
    return found


def _thinned(seconds: Sequence[int], values: Sequence[float]) -> list[tuple[int, float]]:
    """At most _POINTS: the means of as many neighbours as that takes."""
    size = -(-len(values) // _POINTS) or 1
    return [
        (seconds[min(at + size, len(values)) - 1], fmean(values[at : at + size]))
        for at in range(0, len(values), size)
    ]


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten; at least a hundredth."""
    step = 0.01
    while True:
        for times in (1, 2, 5):
            if value <= step * times:
                return round(step * times, 6)
        step *= 10
