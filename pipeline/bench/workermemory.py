"""How much memory a real worker needs for one cell, by its number of prefixes.

On a broker of its own (Apache Kafka), with `edgesteer sim run` beside it: the worker folds the cell
from the beginning of its log, which is when it needs most, takes over, leads for more than a minute
and so writes the cell down. Its peak is what Linux says of the process (VmHWM).
"""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.bench.common import (
    APPLIANCES,
    PLAYS_PER_S,
    Say,
    epochs,
    fleet_args,
    is_steady,
    kafka,
    running,
    until_up,
    worker_args,
)
from schemas.registry import BGP_ROUTES

PREFIXES = (300_000, 600_000, 1_200_000)
WANTED_MB, HEARD_AT = 1200, 3
LED_S, TIMEOUT_S = 75.0, 900.0


async def measure(say: Say, sizes: Sequence[int] = PREFIXES) -> dict[str, Any]:
    """Peak and lasting memory at each size. Raises BrokerError when something ends or hangs."""
    found = {f"{prefixes:,} prefixes": await _at_size(say, prefixes) for prefixes in sizes}
    return {
        "appliances": APPLIANCES,
        "plays_per_s": PLAYS_PER_S,
        "sites_a_prefix": HEARD_AT,
        "wanted_peak_mb": WANTED_MB,
        **found,
    }


async def _at_size(say: Say, prefixes: int) -> dict[str, Any]:
    say(f"{prefixes:,} prefixes in a real worker ...")
    fleet = [*fleet_args(prefixes), "--heard-at", str(HEARD_AT)]
    async with kafka(1, say) as (broker, folder), running("fleet", fleet, broker, folder) as sim:
        await until_up(sim, TIMEOUT_S)
        async with running("worker", worker_args(folder), broker, folder) as worker:
            began = await epochs(broker, is_steady, worker, TIMEOUT_S)
            await asyncio.sleep(LED_S)
            return {
                "prefixes_in_the_table": max(one.prefixes for one in began),
                "routes": sum(one.rows.get(BGP_ROUTES.name, 0) for one in began),
                "peak_mb": memory_mb(worker.pid, "VmHWM"),
                "lasting_mb": memory_mb(worker.pid, "VmRSS"),
            }


def memory_mb(pid: int, name: str) -> int | None:
    """VmHWM or VmRSS of a process; None where the system does not tell."""
    status = Path(f"/proc/{pid}/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) >> 10 if found else None
