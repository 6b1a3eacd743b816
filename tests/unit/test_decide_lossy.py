"""Which paths lose too much: one site's, not a network's, and not by chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.decide.lossy import ENTER, judge
from pipeline.effects import VerdictRow
from pipeline.reasons import Reason
from pipeline.state.paths import COMPACT_EVERY_MS, Paths
from tests.frames import CONFIG, NOW_MS, fleet_with, fold_into, path_sample

SITES = 4
FLEET = fleet_with(0, sites=SITES)


class Measured:
    """Samples of 200 probes, a round of them a second."""

    def __init__(self) -> None:
        self.paths, self.now_ms = Paths(), NOW_MS

    def round(self, loss: dict[tuple[int, int], float], probes: int = 200) -> list[VerdictRow]:
        """Of (site, network) what each loses; the verdicts."""
        self.now_ms += 1000
        samples = [
            path_sample(
                f"s{site}",
                f"198.18.{network}.0/24",
                self.now_ms,
                loss=part,
                samples=round(probes * (1 - part)),
            )
            for (site, network), part in loss.items()
        ]
        fold_into(self.paths, "traffic.paths", samples, FLEET, self.now_ms)
        return judge(self.paths, FLEET)

    def lossy(self) -> set[tuple[int, int]]:
        at = np.flatnonzero(self.paths.lossy)
        network = (self.paths.lo[at] >> np.uint64(8)) & np.uint64(0xFF)
        return set(zip(self.paths.site[at].tolist(), network.tolist(), strict=True))


def everywhere(**of: float) -> dict[tuple[int, int], float]:
    """No loss from four sites to three networks but for s1n2=0.05."""
    loss = {(site, network): 0.0 for site in range(SITES) for network in range(3)}
    return loss | {(int(name[1]), int(name[3])): part for name, part in of.items()}


def test_a_path_that_loses_where_others_do_not_is_lossy_from_its_second_sample() -> None:
    measured = Measured()
    assert measured.round(everywhere(s1n2=0.1, s1n0=0.1)) == []
    (verdict,) = measured.round(everywhere(s1n2=0.1, s1n0=0.12))
    assert measured.lossy() == {(1, 0), (1, 2)}
    assert (verdict.kind, verdict.entity) == ("path", "s1")
    assert (verdict.from_state, verdict.to_state) == ("CLEAR", "LOSSY")
    assert verdict.reason == Reason.PATH_LOSS
    text = "loses 11.0 % more than the best path to the same network, to 2 of 3"
    assert verdict.detail == text
    assert measured.round(everywhere(s1n2=0.1)) == []  # some are left


def test_a_network_that_everybody_loses_towards_is_laid_to_no_site() -> None:
    measured = Measured()
    bad = {f"s{site}n1": 0.2 for site in range(SITES)}
    for _ in range(10):
        assert measured.round(everywhere(**bad)) == []
    assert not measured.lossy()
    for _ in range(10):
        measured.round(everywhere(**bad | {"s3n1": 0.4}))
    assert measured.lossy() == {(3, 1)}  # twice as much is the site's


def test_who_is_not_compared_is_not_judged() -> None:
    measured = Measured()
    for _ in range(5):
        assert measured.round({(0, 0): 0.5, (1, 1): 0.0}) == []
    measured.round({(0, 0): 0.5, (1, 0): 0.0})
    assert not measured.lossy()  # the other one was measured once
    measured.round({(0, 0): 0.5, (1, 0): 0.0})
    assert measured.lossy() == {(0, 0)}


def test_it_is_well_again_when_it_loses_hardly_anything_and_does_not_go_back_and_forth() -> None:
    measured = Measured()
    for _ in range(10):
        measured.round(everywhere(s1n2=0.04), probes=500)
    assert measured.lossy() == {(1, 2)}
    for _ in range(40):
        assert measured.round(everywhere(s1n2=0.008), probes=500) == []
    assert measured.lossy() == {(1, 2)}  # less than makes it so, more than makes it well
    told = [one for _ in range(10) for one in measured.round(everywhere(), probes=500)]
    assert [(one.to_state, one.reason) for one in told] == [("CLEAR", Reason.RELEASED)]
    assert not measured.lossy()
    for _ in range(40):
        assert measured.round(everywhere(s1n2=0.008), probes=500) == []
    assert not measured.lossy()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.03), st.integers(20, 200))
def test_chance_makes_hardly_a_path_lossy(seed: int, true: float, probes: int) -> None:
    """Everybody loses the same towards each of fifty networks: of ten rounds of two hundred paths
    one in a hundred is lossy at the end, if any."""
    rng = np.random.default_rng(seed)
    measured = Measured()
    for _ in range(10):
        lost = rng.binomial(probes, true, (SITES, 50)) / probes
        measured.round(
            {
                (site, network): float(lost[site, network])
                for site, network in np.ndindex(SITES, 50)
            },
            probes,
        )
    assert len(measured.lossy()) <= 2


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.2))
def test_what_a_site_loses_is_found_within_a_few_samples(seed: int, loss: float) -> None:
    rng = np.random.default_rng(seed)
    measured = Measured()
    for _ in range(8):
        share = np.where(np.arange(SITES) == 2, loss, 0.002)[:, None].repeat(20, axis=1)
        lost = rng.binomial(300, share) / 300
        measured.round(
            {
                (site, network): float(lost[site, network])
                for site, network in np.ndindex(SITES, 20)
            },
            100,
        )
    found = measured.lossy()
    assert sum(site == 2 for site, _ in found) >= 14
    assert sum(site != 2 for site, _ in found) <= 1


def test_what_is_lossy_stays_so_in_a_snapshot_and_when_paths_are_forgotten() -> None:
    measured = Measured()
    for _ in range(4):
        measured.round(everywhere(s1n2=0.1))
    again = Paths.from_bytes(bytes(measured.paths.to_bytes()))
    measured.paths = again
    assert measured.lossy() == {(1, 2)}
    late_ms = measured.now_ms + CONFIG.inputs.age_max_ms + COMPACT_EVERY_MS
    measured.now_ms = late_ms - 1000
    measured.round({(1, 2): 0.1, (3, 2): 0.0})
    assert again.compact(late_ms, CONFIG)
    assert len(again) == 2
    assert measured.lossy() == {(1, 2)}
    for _ in range(12):
        measured.round({(1, 2): 0.0, (3, 2): 0.0})
    assert not measured.lossy()


def test_the_version_changes_with_what_is_lossy() -> None:
    measured = Measured()
    measured.round(everywhere(s1n2=0.1))
    version = measured.paths.version
    measured.round(everywhere(s1n2=0.1))
    assert measured.paths.version == version + 1
    measured.round(everywhere(s1n2=0.1))
    assert measured.paths.version == version + 1


def test_without_samples_nothing_is_judged() -> None:
    assert judge(Paths(), FLEET) == []
    assert pytest.approx(0.01) == ENTER
