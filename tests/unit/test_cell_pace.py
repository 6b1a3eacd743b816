"""When tables follow their routes: with the plan of shares, or at once where there is much news."""

import pytest

from pipeline.cell import Cell
from pipeline.config import SteeringConfig
from schemas.registry import STEERING_PREFIXES
from tests.cell_world import table_bytes
from tests.unit.test_cell import Plane

BUCKET_MS = SteeringConfig().inputs.demand_bucket_ms
PREFIXES = 400
NEAR = "eu-s0"


@pytest.fixture
def plane() -> Plane:
    """A region with 400 prefixes more, just after a plan."""
    plane = Plane()
    plane.log.now_ms -= plane.log.now_ms % BUCKET_MS + 1000  # the first cut begins a bucket
    for number in range(PREFIXES):
        plane.log.route(NEAR, prefix(number))
        plane.log.route("eu-s1", prefix(number), hops=3)
    plane.start()
    assert plane.log.now_ms % BUCKET_MS == 0
    return plane


def prefix(number: int) -> str:
    return f"20.{number // 250}.{number % 250}.0/24"


def moved(plane: Plane, after_ms: int = 1000) -> int:
    """Prefixes that the next cut publishes anew."""
    return sum(
        topic == STEERING_PREFIXES.name for topic, _, _ in table_bytes(plane.cut(after_ms=after_ms))
    )


def test_a_few_routes_wait_until_shares_are_planned(plane: Plane) -> None:
    for number in range(3):
        plane.log.route(NEAR, prefix(number), hops=9)
        assert moved(plane) == 0
    assert moved(plane, 2000) == 3
    assert moved(plane, BUCKET_MS) == 0


def test_a_hundredth_of_the_prefixes_does_not_wait(plane: Plane) -> None:
    for number in range(PREFIXES // 100 + 1):
        plane.log.route(NEAR, prefix(number), action="WITHDRAW")
    assert moved(plane) == PREFIXES // 100 + 1


def test_few_by_few_they_press_as_well(plane: Plane) -> None:
    plane.log.route(NEAR, prefix(0), hops=9)
    assert moved(plane) == 0
    for number in range(1, PREFIXES // 100 + 1):
        plane.log.route(NEAR, prefix(number), hops=9)
    assert moved(plane) == PREFIXES // 100 + 1


def test_a_session_that_goes_down_does_not_wait(plane: Plane) -> None:
    plane.log.session(NEAR, "PeerDown")
    assert moved(plane) > PREFIXES


def test_another_configuration_does_not_wait_and_takes_along_what_did(plane: Plane) -> None:
    plane.log.route(NEAR, prefix(7), hops=9)
    assert moved(plane) == 0
    config = SteeringConfig.model_validate({"proximity": {"sites_max": 15}})
    plane.config, plane.log.config_hash = config, config.hash()
    assert moved(plane) == 1


def test_l2_what_waits_is_not_forgotten_by_a_restart(plane: Plane) -> None:
    plane.log.route(NEAR, prefix(7), hops=9)
    assert moved(plane) == 0
    plane.cell = Cell.from_bytes(0, 1, plane.cell.to_bytes())
    plane.log.route(NEAR, prefix(8), hops=9)
    assert moved(plane) == 0
    assert moved(plane, 3000) == 2
