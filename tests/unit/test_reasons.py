"""L9: every Reason there is is produced, and looked at, in a test."""

import re
from enum import StrEnum
from pathlib import Path

import pytest

from pipeline.reasons import Noted, Reason, Refusal

TESTS = Path(__file__).parents[1]
TEXT = "\n".join(
    path.read_text() for path in sorted(TESTS.rglob("test_*.py")) if path != Path(__file__)
)


@pytest.mark.parametrize("reason", [*Refusal, *Noted, *Reason], ids=str)
def test_l9_some_test_names_it(reason: StrEnum) -> None:
    named = rf"{type(reason).__name__}\.{reason.name}\b|[\"']{re.escape(reason.value)}[\"']"
    assert re.search(named, TEXT), f"no test produces {type(reason).__name__}.{reason.name}"
