"""What one seed means: how big the plane is, how the weather is, which faults there are.

Each run has its own mixture (swarm testing): a run with all faults at once meets fewer of the
states that two of them alone lead to.
"""

from dataclasses import dataclass
from random import Random

from pipeline.snapshot.chunks import COPY_BYTES
from tests.simulation.broker import Weather

KINDS = (
    "crash", "crash_at_write", "pause", "pause_at_write", "stop", "hang_up", "upgrade", "outage",
    "deaf", "shuffle", "follower", "lose_disk",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Times in virtual seconds."""

    workers: int
    partitions: int
    tick_ms: int
    faults_s: float
    every_s: float
    kinds: tuple[str, ...]
    weather: Weather
    compacts: bool
    compaction_lag_s: float
    expires: bool
    snapshot_every_cuts: int
    rows_every_s: float
    copy_bytes: int  # of a snapshot at once


def plan_of(random: Random, *, partitions_max: int = 2) -> Plan:
    stormy = random.choice((0.0, 0.0, 0.02, 0.06))

    def maybe() -> float:
        return random.choice((0.0, stormy))

    weather = Weather(
        slow=maybe(),
        ack_lost=maybe(),
        request_lost=maybe(),
        late_copy=maybe(),
        error=maybe() / 4,
        latency_s=random.choice((0.002, 0.02)),
    )
    return Plan(
        workers=random.choice((1, 2, 2, 3)),
        partitions=min(partitions_max, random.choice((1, 1, 1, 2))),
        tick_ms=random.choice((500, 1000)),
        faults_s=random.choice((5.0, 10.0, 16.0)),
        every_s=random.choice((0.3, 1.0, 2.0)),
        kinds=tuple(random.sample(KINDS, random.randint(2, 6))),
        weather=weather,
        compacts=random.random() < 0.5,
        compaction_lag_s=random.choice((6.0, 10.0)),
        # A copy that comes late may spoil the newest snapshot. The log's beginning is still there
        # then, unless it is expired within seconds, as here.
        expires=random.random() < 0.6 and not weather.late_copy,
        snapshot_every_cuts=random.choice((2, 3, 5, 10, 1000)),
        rows_every_s=random.choice((0.1, 0.4)),
        copy_bytes=random.choice((400, 1000, COPY_BYTES)),
    )
