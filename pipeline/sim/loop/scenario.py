"""A scenario: what happens in the world, as a person writes it down (scenarios/*.toml).

    title, says     what it is called, and what it tries, in a sentence
    length_s        how long it lasts; the first warm_up_s are not counted
    load            viewers as a share of the peak that the fleet was bought for
    [day]           the load as a wave: period_s, trough (share of the peak)
    [[fault]]       kind, from_s, to_s, and what the kind needs (FAULTS)

Times count from the end of the warm-up. A mistake is reported with the line it stands in.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from pipeline.errors import ConfigError, UsageError

#: Kind -> the numbers that it takes beside from_s and to_s: (least, most).
FAULTS: dict[str, dict[str, tuple[float, float]]] = {
    # the busiest sites lose power: their machines fall silent, their routes go after the hold time
    "site_loss": {"sites": (1, 50)},
    # members of the busiest sites' peering ports are cut; the rest of the port stays
    "link_cut": {"sites": (1, 50), "left": (0.01, 0.99)},
    # one appliance in each site reads slowly
    "slow_disk": {"left": (0.01, 0.99)},
    # every n-th appliance loses this share of its packets on its own port
    "bad_cable": {"every": (1, 1000), "loss": (0.0001, 0.5)},
    # the busiest sites' peering ports lose this share of their packets, and say that all is well
    "noisy_link": {"sites": (1, 50), "loss": (0.0001, 0.5)},
    # the sessions of an ISP at the busiest sites go down and come back
    "peer_flap": {"sites": (1, 50), "isp": (0, 99), "down_s": (1, 600), "up_s": (1, 600)},
    # the live viewers of a metro become `times` as many within rise_s
    "flash_crowd": {"metros": (1, 99), "times": (1, 100), "rise_s": (1, 600)},
    # appliances fail most requests and report that all is well
    "lying_report": {"every": (1, 1000), "failing": (0.01, 1)},
    # the reports of this share of all appliances do not arrive
    "report_loss": {"share": (0.01, 1)},
    # the plays of this share of all appliances do not arrive
    "play_loss": {"share": (0.01, 1)},
    # every appliance drains, restarts and comes back, evenly over the time there is
    "upgrade": {"drain_s": (0, 3600), "off_s": (1, 3600)},
    # viewers of one ISP change to another, this share of them over over_s
    "isp_shift": {"isp": (0, 99), "to_isp": (0, 99), "share": (0.01, 1), "over_s": (1, 3600)},
}
_TOP: dict[str, tuple[float, float]] = {
    "length_s": (60, 86_400),
    "warm_up_s": (30, 3_600),
    "load": (0.05, 2),
}
_DAY: dict[str, tuple[float, float]] = {"period_s": (300, 86_400), "trough": (0.05, 1)}
_SPAN: dict[str, tuple[float, float]] = {"from_s": (0, 86_400), "to_s": (1, 86_400)}
_WORDS = ("title", "says")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, in seconds since the warm-up ended."""

    kind: str
    from_s: int
    to_s: int
    of: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`period_s` 0: the load does not follow the day."""

    name: str
    title: str
    says: str
    length_s: int
    warm_up_s: int
    load: float
    period_s: int = 0
    trough: float = 1.0
    faults: tuple[Fault, ...] = ()


def _files() -> dict[str, str]:
    """Name -> file, in the order of the numbers that the files begin with."""
    folder = files("pipeline.sim.loop") / "scenarios"
    found = sorted(one.name for one in folder.iterdir() if one.name.endswith(".toml"))
    return {file[3:-5]: file for file in found}


def names() -> list[str]:
    """The scenarios that come with the package, in the order of the table."""
    return list(_files())


def load(name: str) -> Scenario:
    """A scenario of the package by its name. Raises UsageError, ConfigError."""
    found = _files()
    if name not in found:
        raise UsageError(f"no scenario {name!r}; there are {', '.join(found)}")
    text = (files("pipeline.sim.loop") / "scenarios" / found[name]).read_text()
    return read(name, text, found[name])


def read(name: str, text: str, path: str) -> Scenario:
    """Parse and check. Raises ConfigError with the line."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise ConfigError(str(error), path=path, line=int(line[1]) if line else 0) from error
    lines = _Lines(text, path)
    lines.known(raw, {*_WORDS, *_TOP, "day", "fault"}, "", 0)
    words = {key: lines.word(raw, key) for key in _WORDS}
    top = lines.numbers(raw, _TOP, "", 0)
    day = raw.get("day")
    wave = {"period_s": 0.0, "trough": 1.0}
    if day is not None:
        lines.known(day, set(_DAY), "day", 0)
        wave = lines.numbers(day, _DAY, "day", 0)
    faults = tuple(_fault(one, nth, lines, top["length_s"]) for nth, one in _listed(raw, lines))
    return Scenario(
        name,
        **words,
        length_s=round(top["length_s"]),
        warm_up_s=round(top["warm_up_s"]),
        load=top["load"],
        period_s=round(wave["period_s"]),
        trough=wave["trough"],
        faults=faults,
    )


def _listed(raw: Mapping[str, Any], lines: "_Lines") -> list[tuple[int, Mapping[str, Any]]]:
    given = raw.get("fault", [])
    if not isinstance(given, list):
        raise lines.error("a fault is written as [[fault]], with two brackets", "fault", 0)
    return list(enumerate(given))


def _fault(raw: Mapping[str, Any], nth: int, lines: "_Lines", length_s: float) -> Fault:
    kind = raw.get("kind")
    if kind not in FAULTS:
        raise lines.error(
            f"kind = {kind!r}: a fault is one of {', '.join(FAULTS)}", "fault", nth, "kind"
        )
    lines.known(raw, {"kind", *_SPAN, *FAULTS[kind]}, "fault", nth)
    span = lines.numbers(raw, _SPAN, "fault", nth)
    if not span["from_s"] < span["to_s"] <= length_s:
        raise lines.error(
            f"to_s = {span['to_s']:g}: after from_s ({span['from_s']:g}) and within length_s "
            f"({length_s:g})", "fault", nth, "to_s",
        )  # fmt: skip
    of = lines.numbers(raw, FAULTS[kind], "fault", nth)
    return Fault(kind, round(span["from_s"]), round(span["to_s"]), of)


class _Lines:
    """Where in the text each key stands, for what is wrong with it."""

    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._line: dict[tuple[str, int, str], int] = {}
        table, nth, count = "", 0, dict[str, int]()
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[+\s*([\w-]+)\s*\]+", line):
                table = header[1]
                nth = count.get(table, 0)
                count[table] = nth + 1
                self._line[table, nth, ""] = number
            elif key := re.match(r"\s*([\w-]+)\s*=", line):
                self._line[table, nth if table else 0, key[1]] = number

    def error(self, message: str, table: str, nth: int, key: str = "") -> ConfigError:
        at = self._line.get((table, nth, key)) or self._line.get((table, nth, ""), 1)
        return ConfigError(message, path=self._path, line=at)

    def known(self, raw: object, known: set[str], table: str, nth: int) -> None:
        if not isinstance(raw, dict):
            raise self.error(f"[{table}] is a table", table, nth)
        for key in raw:
            if key not in known:
                raise self.error(
                    f"{key}: not known here; there are {', '.join(sorted(known))}", table, nth, key
                )

    def word(self, raw: Mapping[str, Any], key: str) -> str:
        value = raw.get(key)
        if not isinstance(value, str) or not value:
            raise self.error(f"{key}: a text is needed", "", 0, key)
        return value

    def numbers(
        self, raw: Mapping[str, Any], limits: Mapping[str, tuple[float, float]], table: str,
        nth: int,
    ) -> dict[str, float]:  # fmt: skip
        found = {}
        for key, (least, most) in limits.items():
            value = raw.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise self.error(f"{key}: a number is needed", table, nth, key)
            if not least <= value <= most:
                raise self.error(f"{key} = {value:g}: from {least:g} to {most:g}", table, nth, key)
            found[key] = float(value)
        return found
