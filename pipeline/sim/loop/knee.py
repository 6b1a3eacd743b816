"""What an appliance or a link delivers of what is asked of it, below and beyond its knee.

Idea: a machine that is asked for more than it can do does less, not as much as it can: it seeks,
sends again, and spends its time on requests that time out.
Rule: everything up to the KNEE is delivered whole; from there on ever less of what is added, until
at 100 % MOST is delivered. That stays so up to FULL; beyond it goodput falls along a line, down to
FLOOR. New connections are refused in proportion to what is beyond 100 %. The first byte is late by
the queue in front of it.
Sources: Edge Fabric keeps below 95 %; Espresso reports losses of less than 2 % at 100 % (DOMAIN);
receive livelock (Mogul and Ramakrishnan 1997: beyond the maximum loss-free rate goodput falls).
Links lose what does not fit and no more: senders back off (TCP fills a link, it does not break it).
What a bad cable loses makes them back off as well: a connection gets 1.22 segments a round trip,
over the root of the loss (Mathis et al. 1997).
"""

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

_SEGMENT_BITS, _MATHIS = 1_460 * 8, 1.22
_HOME_US = 15_000  # of DSL and cable behind what is probed

KNEE = 0.95
MOST = 0.98
FULL = 1.05
_FALL = 0.5  # of capacity, for each capacity that is asked beyond FULL
FLOOR = 0.6
_FIRST_BYTE_MS, _FIRST_BYTE_MAX_MS = 20.0, 3_000.0


def delivered(load: F64) -> F64:
    """Goodput as a share of capacity, given what is asked as a share of it."""
    losing = KNEE + (load - KNEE) * (MOST - KNEE) / (1.0 - KNEE)
    beyond = np.maximum(MOST - _FALL * np.maximum(load - FULL, 0.0), FLOOR)
    return np.where(load <= KNEE, load, np.minimum(losing, beyond))


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


def survives(loss: F64, rtt_us: npt.NDArray[np.int64], bitrate_bps: float) -> F64:
    """Share of this bitrate that a connection gets where such a share of packets is lost."""
    bps = _MATHIS * _SEGMENT_BITS * 1e6 / (rtt_us + _HOME_US) / np.sqrt(np.maximum(loss, 1e-9))
    got: F64 = np.minimum(bps / bitrate_bps, 1.0)
    return got
