"""Where the time of `step` goes: its sections are timed as they are called, a microsecond each."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pipeline.cell
from pipeline.decide.groups import RegionTable
from pipeline.publish import Ledger
from pipeline.regions import Region
from pipeline.state.demand import Demand
from pipeline.state.fleet import Fleet
from pipeline.state.health import Health
from pipeline.state.links import Links
from pipeline.state.paths import Paths
from pipeline.state.routes import Routes

#: Where it is looked up, its name, what it is called in a result.
Section = tuple[Any, str, str]
#: One that is called by another is counted in both.
STEP: tuple[Section, ...] = (
    (Fleet, "fold", "step: fold inventory"),
    (Routes, "fold", "step: fold routes"),
    (Health, "fold", "step: fold health"),
    (Links, "fold", "step: fold links"),
    (Paths, "fold", "step: fold paths"),
    (Demand, "fold", "step: fold plays"),
    (Demand, "_settle", "step: plays into their blocks"),
    (pipeline.cell, "evaluate", "step: states"),
    (pipeline.cell, "weigh", "step: weights"),
    (pipeline.cell, "decide_eligibility", "step: eligibility"),
    (RegionTable, "update", "step: tables"),
    (Region, "take", "step: served groups"),
    (Region, "plan", "step: shares"),
    (Region, "react", "step: urgent shares"),
    (Ledger, "set_groups", "step: group records"),
)


class Stopwatch:
    """Context manager: `took` (seconds) and `calls` of these sections, by what they are called."""

    def __init__(
        self, sections: Iterable[Section], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.took, self.calls = defaultdict[str, float](float), Counter[str]()
        self._clock = clock
        self._found = [(*section, getattr(*section[:2])) for section in sections]

    def __enter__(self) -> "Stopwatch":
        for owner, name, label, function in self._found:
            setattr(owner, name, self._timed(function, label))
        return self

    def __exit__(self, *exc: object) -> None:
        for owner, name, _, function in self._found:
            setattr(owner, name, function)

    def _timed(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = self._clock()
            try:
                return function(*args, **kwargs)
            finally:
                self.took[label] += self._clock() - began
                self.calls[label] += 1

        return timed
