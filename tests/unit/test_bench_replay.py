"""The replay benchmark on a small cell. Says nothing about how fast it is: a benchmark is no
test."""

from pathlib import Path

from pipeline.bench.replay import run
from pipeline.bench.replayworld import BEGIN_MS, FAILURES_EVERY_S, make
from pipeline.cut import Cause
from pipeline.replay.archive import Recording
from pipeline.replay.fold import cut_of, values_of
from pipeline.sim.size import SimSize
from schemas.registry import STEERING_CUTS

SMALL = SimSize(regions=1, sites=8, appliances=24, prefixes=400, rate=60, churn_per_s=3.0)


def test_the_recording_is_the_same_each_time_and_holds_ticks_and_urgent_cuts(
    tmp_path: Path,
) -> None:
    seconds = FAILURES_EVERY_S + 1
    one, two = (make(tmp_path / name, 7, SMALL, seconds) for name in ("one", "two"))
    assert one == two  # parts and their digests among it
    with Recording(tmp_path / "one") as recording:
        cuts = [cut_of(value) for value in values_of(recording, STEERING_CUTS.name, 0)]
        assert recording.manifest.span_ms == seconds * 1000
        assert recording.manifest.cells[0].cuts == len(cuts)
    causes = [cut.cause for cut in cuts if cut is not None]
    assert causes.count(Cause.TICK) == seconds
    assert causes.count(Cause.URGENT) == 1
    times = [cut.at_ms for cut in cuts if cut is not None]
    assert times[0] == BEGIN_MS
    assert times == sorted(times)


def test_what_is_measured_is_a_replay_in_which_every_cut_is_equal() -> None:
    said: list[str] = []
    found = run(said.append, 3, SMALL)
    assert (found["name"], found["unit"]) == ("replay", "times real time")
    detail = found["detail"]
    assert detail["cuts"] == 4
    assert detail["outcomes"] == {"equal": 4}
    assert detail["all_equal"]
    assert found["value"] > 0
    assert found["ratios"]["decode_only"] > 0
    assert detail["calls"]["step"] == detail["cuts"]
    # what is decoded alone is every record that the fold takes: all but the log itself
    log = sum(count for topic, count in detail["by_topic"].items() if "steering" in topic)
    assert detail["decode_only"]["records"] == detail["records"] - log
    assert len(said) == 2
