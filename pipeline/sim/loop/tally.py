"""Sums and ratios of columns of floats, as this world needs them everywhere."""

from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]


def sums(at: npt.NDArray[np.integer], amount: npt.NDArray[Any], size: int) -> F64:
    """float64[size]: `amount` added up by the places `at`."""
    total: F64 = np.bincount(at.reshape(-1), amount.reshape(-1), size).astype(np.float64)
    return total


def ratio(part: F64, whole: F64) -> F64:
    """part / whole, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
