"""What is forecast for a minute ahead, and its error as stated: held against what then came."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.state.forecast import DRIFT_SHIFT, HORIZON_MS, Forecast, Seen
from pipeline.state.trend import Moving, Trend

BUCKETS, BUCKET_MS = 12, 5_000
LAG = HORIZON_MS // BUCKET_MS
APART_MS = BUCKETS * BUCKET_MS / 2
VIEWER = 5_000_000 * BUCKET_MS // 8000
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
SEEDS = st.integers(0, 2**32 - 1)
NONE: I64 = np.empty(0, np.int64)


class Told(NamedTuple):
    """Of one bucket, VOD: the level, its forecast and error, of all and by block."""

    level: int
    expected: int
    error: int
    of_block: I64
    error_of_block: I64
    level_of_block: I64


class World:
    """The blocks of one region as they draw VOD."""

    def __init__(self) -> None:
        self.trend, self.forecast = Trend(3), Forecast(3)

    def pass_bucket(self, series: I64, at: int, short: I64 = NONE) -> Told:
        """Given [bucket, block] bytes of VOD up to `at`."""
        blocks = series.shape[1]
        whole, recent = np.zeros((2, blocks, 3), np.int64)
        whole[:, 0] = series[max(at - BUCKETS, 0) : at].sum(axis=0)
        recent[:, 0] = series[max(at - BUCKETS // 2, 0) : at].sum(axis=0)
        region = np.zeros(blocks, np.int32)
        self.trend.learn(whole, recent, BUCKETS, BUCKET_MS, at, still=len(short) > 0)
        if len(short):
            self.trend.only(np.zeros(len(self.trend.moving.block), np.bool_))
        if self.trend.ready(BUCKETS):
            seen = Seen(whole, recent, BUCKETS, region, short)
            self.forecast.learn(seen, self.trend.moving, self.trend.noise, BUCKET_MS, at)
        level = whole * 8000 // (BUCKETS * BUCKET_MS)
        all_of_it = self.forecast.of_region(0, BUCKET_MS)
        each = self.forecast.of_blocks(
            np.arange(blocks), level, region, self.trend.moving, APART_MS, BUCKET_MS
        )
        totals = int(level[:, 0].sum()), int(all_of_it.bps[0]), int(all_of_it.error_bps[0])
        return Told(*totals, each.bps[:, 0], each.error_bps[:, 0], level[:, 0])


def told(series: I64) -> list[Told]:
    world = World()
    return [world.pass_bucket(series, at) for at in range(1, len(series) + 1)]


def off(all_told: list[Told], since: int) -> tuple[F64, F64, F64]:
    """Per bucket from `since` on: (what came - forecast, what came - level, error as stated)."""
    came = np.array([one.level for one in all_told])[since + LAG :]
    of = [all_told[at] for at in range(since, len(all_told) - LAG)]
    forecast, level, error = (
        np.array([getattr(one, name) for one in of], np.float64)
        for name in ("expected", "level", "error")
    )
    return came - forecast, came - level, error


def rms(values: F64) -> float:
    return float(np.sqrt((values * values).mean()))


@settings(max_examples=15)
@given(SEEDS, st.integers(2, 40))
def test_of_steady_demand_the_error_is_small_and_what_is_stated(seed: int, viewers: int) -> None:
    """Of 200 blocks, for a quarter of an hour after as much of learning. Of chance alone the root
    mean square is that of two windows of twelve buckets, with the root of the viewers."""
    rng = np.random.default_rng(seed)
    mean = viewers * (0.5 + rng.random(200))
    series = rng.poisson(mean, (2 * 180 + LAG, 200)) * VIEWER
    all_told = told(series)
    wrong, _, error = off(all_told, 180)
    chance_bps = 5e6 * (2 * mean.sum() / BUCKETS) ** 0.5
    assert rms(wrong) < 2.5 * chance_bps
    assert 0.3 * chance_bps < error.mean() < 2.5 * chance_bps
    within = np.abs(wrong) <= 2 * error
    assert within.mean() > 0.75  # fifteen minutes that overlap
    inside, twice = [], []
    for at in range(180, len(all_told) - LAG):
        came = all_told[at + LAG].level_of_block - all_told[at].of_block
        inside.append((np.abs(came) <= all_told[at].error_of_block).mean())
        twice.append((np.abs(came) <= 2 * all_told[at].error_of_block).mean())
    assert np.mean(inside) == pytest.approx(0.66, abs=0.06)  # of a normal distribution 0.68
    assert np.mean(twice) == pytest.approx(0.93, abs=0.04)  # and 0.95, by an error of few samples


@settings(max_examples=10)
@given(SEEDS, st.integers(10, 40))
def test_a_ramp_is_forecast_ahead_of_the_level(seed: int, percent: int) -> None:
    """So many per cent of what was more in each bucket, from the fifth minute to the eighth: the
    forecast is above the level and nearer to what comes."""
    rng = np.random.default_rng(seed)
    calm, ramp = 60, 36
    scale = np.concatenate([np.ones(calm), 1 + np.arange(1, ramp + 1) * percent / 100])
    all_told = told(rng.poisson(np.tile(50 * scale[:, None], (1, 100))) * VIEWER)
    for at in range(calm + BUCKETS, len(all_told) - LAG):
        assert all_told[at].expected > all_told[at].level
    wrong, behind, _ = off(all_told, calm + BUCKETS)
    assert rms(wrong) < 0.8 * rms(behind)


@pytest.mark.parametrize("seed", range(3))
def test_the_ramp_of_a_day_is_forecast_better_than_by_the_last_level(seed: int) -> None:
    """Two hours of it, viewers who come for 45 minutes, 100,000 of them at the beginning and twice
    as many at the end of a quarter of a day: too slow for a single block to show it."""
    rng = np.random.default_rng(seed)
    long, blocks, leave = 1440, 100, BUCKET_MS / 2_700_000
    viewers = np.full(blocks, 1_000, np.int64)
    series = np.empty((long, blocks), np.int64)
    for at in range(long):
        series[at] = rng.poisson(viewers) * VIEWER
        arrivals = 1_000 * (1 + at / (6 * 720)) * leave + 1_000 / (6 * 720)
        viewers += rng.poisson(arrivals, blocks) - rng.binomial(viewers, leave)
    wrong, behind, error = off(told(series), 360)
    assert rms(wrong) < 0.9 * rms(behind)
    assert rms(wrong) == pytest.approx(error.mean(), rel=0.35)


@settings(max_examples=10)
@given(SEEDS, st.floats(5, 50))
def test_a_crowd_is_forecast_and_lost_reports_are_not_held_against_anybody(
    seed: int, viewers: float
) -> None:
    """Ten times the viewers of half the blocks within half a minute: forecast above the level while
    they come, and the error says that nobody knew. The same blocks without their plays, known to be
    missing: nothing of it is learned."""
    rng = np.random.default_rng(seed)
    blocks, begin, rise = 100, 120, 6
    struck = np.arange(blocks) < blocks // 2
    times = np.ones(begin + 24)
    times[begin:] = 1 + 9 * np.clip((np.arange(24) + 1) / rise, 0, 1)
    crowd = rng.poisson(viewers * np.where(struck[None, :], times[:, None], 1.0)) * VIEWER
    all_told = told(crowd)
    before = all_told[begin - 1]
    for at in range(begin + 3, begin + rise):
        assert all_told[at].of_block[struck].sum() > 1.3 * all_told[at].level_of_block[struck].sum()
    assert all_told[-1].error / all_told[-1].expected > 2 * before.error / before.expected
    lost = crowd.copy()
    lost[begin:, struck] = 0
    world, known = World(), Forecast(3)
    for at in range(1, len(lost) + 1):
        world.pass_bucket(lost, at, np.array([0]) if at > begin else NONE)
        if at == begin:
            known = Forecast.of(
                {name: np.copy(value) for name, value in world.forecast.fields().items()}
            )
    for name in ("squares", "asked", "dispersion", "of_class", "drift"):
        before_it, after_it = getattr(known, name), getattr(world.forecast, name)
        assert np.array_equal(before_it, after_it)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 60))
def test_what_was_forecast_goes_on_from_a_snapshot(seed: int, stop: int) -> None:
    rng = np.random.default_rng(seed)
    series = rng.poisson(1 + 20 * rng.random(30), (70, 30)) * VIEWER
    one, other = World(), World()
    for at in range(1, len(series) + 1):
        here, there = one.pass_bucket(series, at), other.pass_bucket(series, at)
        if at == stop:
            other.forecast = Forecast.of(other.forecast.fields())
        assert all(np.array_equal(*pair) for pair in zip(here, there, strict=True))


def test_a_worked_example() -> None:
    """One region of two blocks, the first at 1,200 bytes a bucket and growing by 12 in each, the
    second changing by 300 beyond chance between the halves."""
    forecast, noise = Forecast(1), np.array([100.0])
    whole = np.array([[12 * 1_200], [12 * 900]])
    recent = np.array([[6 * 1_236], [6 * 1_200]])
    moving = Moving(*map(np.array, ([1], [0], [0], [0], [300.0])))
    seen = Seen(whole, recent, 12, np.zeros(2, np.int32), NONE)
    forecast.learn(seen, moving, noise, BUCKET_MS, 24)
    # 72 bytes in six buckets, of 1,200; a 256th of the way
    drift = 72 / 6 / 1_200 / (1 << DRIFT_SHIFT)
    assert forecast.drift[0, 0] == pytest.approx(drift)
    expected = (1_200 + 900) * (1 + 12 * drift) + 300 * 45 / 30
    assert forecast.expected[0, 0] == pytest.approx(expected)
    assert forecast.of_region(0, BUCKET_MS).bps.tolist() == [int(expected * 8 / 5)]
    assert forecast.of_region(0, BUCKET_MS).error_bps.tolist() == [-1]
    forecast.learn(seen, moving, noise, BUCKET_MS, 25)
    factor = 1 + 12 * forecast.drift[0, 0]
    assert forecast.kept[:, 0] == pytest.approx([1_200 * (1 + 12 * drift), 900 * factor + 450])
    level_bps = np.array([[1_920], [1_440]])
    both = np.arange(2), level_bps, np.zeros(2, np.int32), moving, APART_MS, BUCKET_MS
    each = forecast.of_blocks(*both)
    assert each.bps[:, 0].tolist() == [int(1_920 * factor), int(1_440 * factor + 450 * 8 / 5)]
    for at in range(26, 36):
        forecast.learn(seen, moving, noise, BUCKET_MS, at)
    assert forecast.of_region(0, BUCKET_MS).error_bps.tolist() == [-1]
    late = Forecast.of({name: np.copy(value) for name, value in forecast.fields().items()})
    late.learn(seen, moving, noise, BUCKET_MS, 48)  # its minute is not that of what it kept
    assert late.of_region(0, BUCKET_MS).error_bps.tolist() == [-1]
    assert (late.dispersion == -1).all()
    # a minute later 3,000 came in all
    whole = np.array([[12 * 1_500], [12 * 1_500]])
    seen = Seen(whole, whole // 2, 12, np.zeros(2, np.int32), NONE)
    forecast.learn(seen, Moving.none(), noise, BUCKET_MS, 36)
    assert forecast.squares[0, 0] == pytest.approx(((3_000 - expected) / expected) ** 2)
    # the first block was asked in this bucket, for the first time: its class begins with it
    first = 1_200 * (1 + 12 * drift)
    assert forecast.of_class[0] == pytest.approx((1_500 - first) ** 2 / first, rel=1e-6)
    assert forecast.dispersion[0, 0] == pytest.approx(forecast.of_class[0])
    assert forecast.dispersion[1, 0] == -1


def test_blocks_that_are_numbered_anew_keep_how_far_they_were_off() -> None:
    forecast = Forecast(1)
    forecast.dispersion = np.array([[1], [2], [3]], np.float32)
    forecast.kept = forecast.dispersion.copy()
    forecast.renumber(np.array([0, 2, 3]))  # the last one is not known to it yet
    assert forecast.dispersion.tolist() == [[1], [3]]
    assert (forecast.kept == -1).all()
