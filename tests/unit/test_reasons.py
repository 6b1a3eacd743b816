"""L9: every Reason there is is produced, and looked at, in a test."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from pipeline.reasons import Noted, Reason, Refusal
from tests.cell_world import fold, make_log

TESTS = Path(__file__).parents[1]
TEXT = "\n".join(
    path.read_text() for path in sorted(TESTS.rglob("test_*.py")) if path != Path(__file__)
)


@pytest.mark.parametrize("reason", [*Refusal, *Noted, *Reason], ids=str)
def test_l9_some_test_names_it(reason: StrEnum) -> None:
    named = rf"{type(reason).__name__}\.{reason.name}\b|[\"']{re.escape(reason.value)}[\"']"
    assert re.search(named, TEXT), f"no test produces {type(reason).__name__}.{reason.name}"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_l9_every_verdict_and_every_refusal_names_one(seed: int) -> None:
    reasons, refusals, notes = set(Reason), set(Refusal), set(Noted)
    verdicts = 0
    for _, effects in fold(make_log(seed)):
        verdicts += len(effects.verdicts)
        assert {verdict.reason for verdict in effects.verdicts} <= reasons
        refused = [one.reason for some in effects.refused.values() for one in some]
        assert set(refused) <= refusals
        assert set(effects.epoch.notes) <= notes
    assert verdicts
