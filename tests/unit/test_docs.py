"""The documentation says what is: links resolve, commands exist, tables are those of the code.

`EDGESTEER_REGENERATE=1` writes the tables that are printed from code anew.
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup

from pipeline.cli.main import COMMANDS, load
from pipeline.config import SteeringConfig
from pipeline.reasons import Noted, Reason, Refusal
from schemas.registry import TOPICS
from topologies.metrics import REGISTRY

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT) for pattern in ("*.md", "docs/**/*.md") for path in ROOT.glob(pattern)
)
OPERATING = ROOT / "docs/operating.md"
BAD_INPUT = ROOT / "docs/bad-input.md"
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
_TEST = re.compile(r"`((?:tests/[\w/]+\.py)(?:::(\w+))?)`")
_COMMAND = re.compile(r"(?:^|[\s$/])edgesteer ([a-z][a-z-]*(?: [a-z][a-z-]*)?)(?=[\s;]|$)")
_FLAG = re.compile(r"(?<![\w-])(--[a-z][a-z-]+)")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have."""
    text = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_internal_links_resolve(page: Path) -> None:
    for target in _LINK.findall(_FENCE.sub("", (ROOT / page).read_text())):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(there), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_named_tests_exist(page: Path) -> None:
    for place, name in _TEST.findall((ROOT / page).read_text()):
        path = ROOT / place.partition("::")[0]
        assert path.is_file(), f"{page}: {place}"
        assert not name or f"def {name}(" in path.read_text(), f"{page}: {place}"


@cache
def flags(command: str) -> frozenset[str]:
    """Every option of a command and of the commands under it."""
    loaded = load(command)
    several = list(loaded.commands.values()) if isinstance(loaded, TyperGroup) else []
    found = {"--help", "--version"}
    for one in (loaded, *several):
        for parameter in one.params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return frozenset(found)


def mentions(page: Path) -> Iterator[tuple[str, str, str]]:
    """(command, the word behind it, the rest of the line) wherever code on a page runs one."""
    text = (ROOT / page).read_text()
    code = [*_FENCE.findall(text), *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))]
    for line in "\n".join(code).splitlines():
        for match in _COMMAND.finditer(line):
            first, _, second = match[1].partition(" ")
            yield first, second, line[match.start() :]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_their_flags_exist(page: Path) -> None:
    for first, second, rest in mentions(page):
        assert first in COMMANDS, f"{page}: {rest}"
        loaded = load(first)
        if isinstance(loaded, TyperGroup):
            assert not second or second in loaded.commands, f"{page}: {rest}"
        assert set(_FLAG.findall(rest.partition("#")[0])) <= flags(first), f"{page}: {rest}"


def test_the_readme_names_every_command_that_asks_or_operates() -> None:
    named = {first for first, _, _ in mentions(Path("README.md"))}
    assert set(COMMANDS) - {"demo", "bench"} <= named


# Tables that are printed from code


def metrics_table() -> str:
    """Every metric of a worker under the names that /metrics shows."""
    lines = ["| metric | kind | labels | tells |", "|---|---|---|---|"]
    collectors: Iterable[Any] = REGISTRY._collector_to_names
    for one in sorted(collectors, key=lambda one: one._name):
        name = one._name + ("_total" if one._type == "counter" else "")
        labels = ", ".join(one._labelnames)
        lines.append(f"| `{name}` | {one._type} | {labels} | {one._documentation} |")
    return "\n".join(lines)


def settings_table() -> str:
    """Every setting of `[steering]` with its default."""
    lines = ["| table | setting | default | note |", "|---|---|---|---|"]
    for table, value in SteeringConfig():
        assert isinstance(value, BaseModel)
        for name, field in type(value).model_fields.items():
            default = str(getattr(value, name)).lower()
            note = field.description or ""
            lines.append(f"| `steering.{table}` | `{name}` | {default} | {note} |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "table"), [("metrics", metrics_table()), ("settings", settings_table())]
)
def test_tables_are_those_of_the_code(name: str, table: str) -> None:
    begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
    if os.environ.get("EDGESTEER_REGENERATE") == "1":
        before, _, rest = OPERATING.read_text().partition(begin)
        after = rest.partition(end.strip())[2]
        OPERATING.write_text(before + begin + table + end + after)
    assert begin + table + end in OPERATING.read_text(), "run this with EDGESTEER_REGENERATE=1"


def test_every_refusal_and_note_is_explained() -> None:
    text = BAD_INPUT.read_text()
    missing = [str(one) for one in (*Refusal, *Noted) if f"`{one}`" not in text]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_topics_and_reasons_in_code_marks_exist(page: Path) -> None:
    known = {topic.name for topic in TOPICS}
    prefixes = {name.partition(".")[0] for name in known}
    text = _FENCE.sub("", (ROOT / page).read_text())
    for name in re.findall(r"`([a-z]+\.[a-z_]+)`", text):
        head = name.partition(".")[0]
        if head in prefixes and not hasattr(SteeringConfig(), name.partition(".")[2]):
            assert name in known or name.endswith(".py"), f"{page}: {name}"


def test_reasons_that_the_pages_give_exist() -> None:
    known = {str(one) for one in (*Refusal, *Noted, *Reason)}
    for page in PAGES:
        for name in re.findall(r"Reasons? `(\w+)`", (ROOT / page).read_text()):
            assert name in known, f"{page}: {name}"
