"""A linear programme for HiGHS, so that it answers the same way every time.

Rule: serial dual simplex, no presolve, one thread, a fixed seed, from the slack basis, bounded by
iterations and never by a clock. What goes in are integers; amounts are divided by a power of
two, which is exact, so that they stay small beside the solver's absolute tolerances. What comes out
of a network's vertex is integers again, and who asked proves it in integers
(pipeline/decide/exact.py): nothing rests on the last bits.
"""

from dataclasses import dataclass

import highspy
import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

#: Amounts are brought below 2**AMOUNT_BITS: HiGHS's tolerance of 1e-7 is then less than one unit.
AMOUNT_BITS = 20
_OPTIONS = {
    "threads": 1,
    "parallel": "off",
    "presolve": "off",
    "solver": "simplex",
    "simplex_strategy": 1,
    "random_seed": 0,
    # The proof is in integers; HiGHS would doubt an optimum near 0 by its floats.
    "optimality_tolerance": 1e10,
}


@dataclass(frozen=True, slots=True)
class Programme:
    """Minimise cost x for lower <= x <= upper and low <= A x <= high, where every number is an
    integer or infinite. A: its entries column by column, each from `starts` on, row and value (+1
    or -1)."""

    cost: I64
    lower: F64
    upper: F64
    low: F64
    high: F64
    starts: I64
    row: I64
    value: I64


class SilentHighs(highspy.Highs):  # type: ignore[misc]  # it has no types
    """HiGHS enables its callbacks when it is made, which prints a banner on stdout unless it is
    silent by then; stdout is for what was asked for."""

    def enableCallbacks(self) -> None:  # noqa: N802  (its name for it)
        self.silent()
        super().enableCallbacks()


class Solver:
    """Solves one programme after the other. (To make a HiGHS takes as long as to fill it.)"""

    def __init__(self) -> None:
        self._highs = SilentHighs()
        for name, value in _OPTIONS.items():
            self._highs.setOptionValue(name, value)

    def _pass(self, asked: Programme, unit: float) -> None:
        """Hand over the programme as arrays (as a HighsLp it takes ten times as long)."""
        columns = len(asked.cost)
        self._highs.passModel(
            columns,
            len(asked.low),
            len(asked.row),
            int(highspy.MatrixFormat.kColwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            asked.cost.astype(np.float64),
            asked.lower / unit,
            asked.upper / unit,
            asked.low / unit,
            asked.high / unit,
            asked.starts.astype(np.int32),
            asked.row.astype(np.int32),
            asked.value.astype(np.float64),
            np.zeros(columns, np.int32),  # no variable must be an integer
        )

    def solve(self, asked: Programme, iterations_max: int) -> I64 | None:
        """An optimal vertex, rounded to integers; None where the iterations did not suffice. It
        begins at the slack basis, whatever was solved before."""
        finite = asked.upper[np.isfinite(asked.upper)]
        largest = int(finite.max(initial=1.0))
        unit = float(1 << max(largest.bit_length() - AMOUNT_BITS, 0))
        self._highs.setOptionValue("simplex_iteration_limit", iterations_max)
        self._pass(asked, unit)
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        values = np.asarray(self._highs.getSolution().col_value, np.float64)
        found: I64 = np.rint(values * unit).astype(np.int64)
        return found
