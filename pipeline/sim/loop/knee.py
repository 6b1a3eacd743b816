"""What an appliance or a link delivers of what is asked of it, below and beyond its knee.

Idea: a machine that is asked for more than it can do does less, not as much as it can: it seeks,
sends again, and spends its time on requests that time out.
Rule: everything up to the knee is delivered whole. From there to FULL the delivered amount stays
level, beyond it falls along a line, down to FLOOR of what the machine can do. New connections are
refused in proportion to what is beyond FULL. The first byte is late by the queue in front of it.
Sources: receive livelock (Mogul and Ramakrishnan 1997: beyond the maximum loss-free rate goodput
falls); Edge Fabric keeps below 95 % and Espresso reports losses of less than 2 % at 100 % (DOMAIN).
Links lose what does not fit and no more: senders back off (TCP fills a link, it does not break it).
"""

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

KNEE = 0.95
FULL = 1.05
_FALL = 0.5  # of capacity, for each capacity that is asked beyond FULL
FLOOR = 0.6
_FIRST_BYTE_MS, _FIRST_BYTE_MAX_MS = 20.0, 3_000.0


def delivered(load: F64) -> F64:
    """Goodput as a share of capacity, given what is asked as a share of it."""
    beyond = np.maximum(KNEE - _FALL * (load - FULL), FLOOR)
    return np.where(load <= KNEE, load, np.where(load <= FULL, KNEE, beyond))


def served(load: F64) -> F64:
    """Goodput as a share of what is asked: 1 below the knee."""
    return np.where(load <= KNEE, 1.0, delivered(load) / np.maximum(load, KNEE))


def refused(load: F64) -> F64:
    """Share of new requests that fail."""
    beyond: F64 = np.maximum(load - 1.0, 0.0) / np.maximum(load, 1.0)
    return beyond


def first_byte_ms(load: F64) -> F64:
    """Time to the first byte: that of a queue, bounded by the client's patience."""
    late: F64 = np.minimum(
        _FIRST_BYTE_MS / np.maximum(1.02 - np.minimum(load, 1.02), 1e-3), _FIRST_BYTE_MAX_MS
    )
    return late


def fits(load: F64) -> F64:
    """Share of what is sent into a link that comes out."""
    return 1.0 / np.maximum(load, 1.0)
