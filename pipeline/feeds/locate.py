"""Where in a file a value stands: the line of a mistake.

Idea: parsers forget positions, and a person who is told "site 17 is wrong" wants the line. So a
text that parsed well is walked a second time, only for lines: JSON by its grammar, TOML by its
headers and `key =` lines.
Rule: a path is a sequence of keys and indices, as pydantic reports it. Where the exact place cannot
be told (a value inside a TOML inline table over several lines), the line of what encloses it.
Rejected: a parser that keeps positions (tomlkit: a dependency, and ten times slower on a fleet).
"""

import json
import re
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]
Lines = dict[Path, int]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""^\s*("[^"]*"|'[^']*'|[A-Za-z0-9_-]+)\s*[=.]""")
_MULTILINE = re.compile(r'"""|' + r"'''")
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^,\]}\s]+")


def line_of(lines: Lines, path: Sequence[str | int]) -> int:
    """The line of a path, or of the nearest thing around it; 1 when nothing is known."""
    key = tuple(path)
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key, 1)


def toml_lines(text: str) -> Lines:
    """Lines of the tables and keys of a TOML text that parses."""
    lines: Lines = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in _outside_strings(text):
        header = _HEADER.match(line)
        if header:
            table = _table(header[1] == "[[", header[2], counts)
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            lines.setdefault((*table, key[1].strip("\"'")), number)
    return lines


def _table(repeated: bool, name: str, counts: dict[Path, int]) -> Path:
    """The path of a header: an index behind every array of tables that it goes through."""
    path: Path = ()
    parts = [part.strip().strip("\"'") for part in name.split(".")]
    for part in parts[:-1]:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path] - 1)
    path = (*path, parts[-1])
    if not repeated:
        return path
    counts[path] = counts.get(path, 0) + 1
    return (*path, counts[path] - 1)


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """(1-based number, line) of the lines that do not begin inside a multi-line string."""
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            yield number, line
        for mark in _MULTILINE.findall(line):
            if not inside:
                inside = mark
            elif inside == mark:
                inside = ""


def json_lines(text: str) -> Lines:
    """Lines of every value of a JSON text that parses."""
    lines: Lines = {}
    breaks = [at for at, character in enumerate(text) if character == "\n"]
    _walk(text, _skip(text, 0), (), lines, _Counter(breaks))
    return lines


class _Counter:
    """Line numbers of ascending offsets."""

    def __init__(self, breaks: list[int]) -> None:
        self._breaks, self._line = breaks, 0

    def line(self, at: int) -> int:
        while self._line < len(self._breaks) and self._breaks[self._line] < at:
            self._line += 1
        return self._line + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _walk(text: str, at: int, path: Path, lines: Lines, counter: _Counter) -> int:
    """Note the line of the value at `at` and of those inside it; return where it ends."""
    lines[path] = counter.line(at)
    opening = text[at]
    if opening == '"':
        return _string_end(text, at)
    if opening not in "[{":
        found = _SCALAR.match(text, at)
        return found.end() if found else at + 1
    index = 0
    at = _skip(text, at + 1)
    while text[at] not in "]}":
        step: str | int = index
        if opening == "{":
            end = _string_end(text, at)
            step = json.loads(text[at:end])
            at = _skip(text, _skip(text, end) + 1)  # behind the colon
        at = _skip(text, _walk(text, at, (*path, step), lines, counter))
        index += 1
        if text[at] == ",":
            at = _skip(text, at + 1)
    return at + 1


def _string_end(text: str, at: int) -> int:
    at += 1
    while text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1
