"""The table benchmark on a small table of prefixes, and the forest on the real one."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.announcements import FILE, find_routes, read_prefixes
from pipeline.bench.table import run
from pipeline.errors import UsageError
from pipeline.state.lpm import PrefixTree


def test_the_benchmark_says_what_it_measured_and_that_the_ways_agree(tmp_path: Path) -> None:
    """Says nothing about how fast it is: a benchmark is no test."""
    (tmp_path / FILE).parent.mkdir()
    with gzip.open(tmp_path / FILE, "wt") as file:
        file.write("; IP-ASN32-DAT file\n")
        for number in range(2000):
            file.write(f"{64 + number % 8}.{number // 8}.0.0/16\t{number % 90}\n")
            file.write(f"{64 + number % 8}.{number // 8}.{number % 7 * 16}.0/20\t{number % 50}\n")
            file.write(f"2600:{number:x}::/{32 + number % 90}\t{number % 70}\n")
    found = run(tmp_path)
    assert (found["name"], found["unit"]) == ("table", "s")
    assert found["value"] == found["detail"]["build_s"] > 0
    assert found["ratios"].keys() == {"python_dicts", "polars"}
    assert found["detail"]["prefixes"] == 6000
    assert found["detail"]["depth"] == 2
    assert found["detail"]["equals_rebuilt"]
    assert found["detail"]["peers"]["same_rankings"]


def test_without_the_data_the_benchmark_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--data or EDGESTEER_DATA"):
        run(tmp_path)


@pytest.mark.slow
def test_every_real_prefix_has_the_parent_that_shortening_it_finds() -> None:
    try:
        prefixes, _ = read_prefixes(find_routes(None))
    except UsageError as missing:
        pytest.skip(str(missing))
    hi, lo, length = prefixes
    tree = PrefixTree()
    tree.build(np.arange(len(hi), dtype=np.int32), prefixes)
    number = {
        (int(one) << 64 | int(two), int(bits)): at
        for at, (one, two, bits) in enumerate(zip(hi, lo, length, strict=True))
    }
    for (address, bits), at in number.items():
        parent = -1
        for shorter in range(bits - 1, 7, -1):
            shift = 128 - shorter
            if (cover := (address >> shift << shift, shorter)) in number:
                parent = number[cover]
                break
        assert tree.parent[at] == parent
