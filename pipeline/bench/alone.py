"""A stage of a benchmark as a process of its own: on one core, its time and memory its own."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson


def stage(module: str, *arguments: str) -> dict[str, Any]:
    """What `python -m MODULE STAGE ...` prints, with one thread of polars. CalledProcessError where
    it fails."""
    done = subprocess.run(  # noqa: S603  (a module of this package, with arguments of our own)
        [sys.executable, "-m", module, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
    )
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def serve(stages: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """The other side of `stage`: run the one that was asked for, on one core where the system can
    pin a process, and print what it returns."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.write(1, orjson.dumps(stages[sys.argv[1]](*sys.argv[2:])))


def peak_mb() -> int:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1 << 20) if sys.platform == "darwin" else peak // (1 << 10)
