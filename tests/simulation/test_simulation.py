"""Whatever happens to the workers, the plane ends where it would be if nothing had happened.

A failure says its seed and what happened before; `EDGESTEER_SIM_SEED=N` repeats just that run,
`EDGESTEER_SIM_RUNS=N` sets how many there are. docs/simulation.md says what is simulated.
"""

import os
from hashlib import sha256
from random import Random

import pytest

from tests.simulation.plan import plan_of
from tests.simulation.run import Run, simulate
from tests.simulation.worlds import RealWorld

#: Of each `make test`; `make simulation` runs thousands.
RUNS, RUNS_REAL = 200, 6
#: What ends one that hangs: longer where more runs were asked for.
HANGS_S = 1800 + 20 * int(os.environ.get("EDGESTEER_SIM_RUNS") or 0)


def seeds(runs: int) -> range:
    """Those that were asked for, else so many."""
    if (seed := os.environ.get("EDGESTEER_SIM_SEED")) is not None:
        return range(int(seed), int(seed) + 1)
    return range(int(os.environ.get("EDGESTEER_SIM_RUNS") or runs))


def real(seed: int) -> Run:
    return simulate(seed, RealWorld(seed % 7), plan_of(Random(seed), partitions_max=1))


@pytest.mark.slow
@pytest.mark.timeout(HANGS_S)
def test_l2_l3_l5_hold_whatever_happens_to_the_workers_of_a_toy_cell() -> None:
    for seed in seeds(RUNS):
        simulate(seed)


@pytest.mark.slow
@pytest.mark.timeout(HANGS_S)
def test_l2_l3_l5_hold_whatever_happens_to_the_workers_of_a_real_cell() -> None:
    for seed in seeds(RUNS_REAL):
        real(seed)


def test_a_seed_repeats_its_run_to_the_last_effect() -> None:
    def what_happened(seed: int) -> str:
        run = simulate(seed)
        state = f"{run.trace.text()} {run.loop.steps} {run.random.random()}"
        return sha256(state.encode()).hexdigest()

    assert [what_happened(seed) for seed in (3, 4)] == [what_happened(seed) for seed in (3, 4)]
