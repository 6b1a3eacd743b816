"""The unit in which plans reckon load: kbit/s x ten-thousandths.

Demand is whole kbit/s and a share whole ten-thousandths of it, so their product is exact, and a sum
of them depends on no order. Outside of a plan a load is bits/s.
"""

from typing import TypeVar

from pipeline.decide.transport import I64, TOTAL

_Load = TypeVar("_Load", int, I64)

#: Of the unit in a bit/s.
_PER_BPS = TOTAL // 1000


def load_bps(load: _Load) -> _Load:
    """bits/s of a load in kbit/s x ten-thousandths, rounded down."""
    return load // _PER_BPS
