"""The configuration file: `edgesteer.toml` here, or the one EDGESTEER_CONFIG names.

`tomllib` forgets where a value stood, and a person needs the line. So after parsing, the line of a
key is looked up in the text: its table's header, then the first `key =` under it. That is exact for
the flat tables we have; a parser that keeps positions would be a dependency for one error message.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

DEFAULT_NAME = "edgesteer.toml"
#: The tables a file may have; each is read by the room it belongs to.
SECTIONS = ("broker", "steering")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A parsed file, or (`text` empty) the place where none was."""

    path: Path
    found: bool
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.path) if self.found else f"{self.path} (not there)"

    def section(self, name: str) -> dict[str, Any]:
        """The values of one table; empty when it is absent."""
        section: dict[str, Any] = self.data.get(name, {})
        return section

    def line(self, section: str, key: str = "") -> int:
        """The 1-based line of `key` in `[section]`, of the header without a key; 0 if not found."""
        inside = not section
        for number, text in enumerate(self.text.splitlines(), 1):
            header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", text)
            if header:
                inside = header[1] == section
                if inside and not key:
                    return number
            elif inside and key and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", text):
                return number
        return 0

    def error(self, section: str, key: str, message: str) -> ConfigError:
        """A ConfigError that names this file and the line of the key."""
        line = self.line(section, key) or self.line("", key)
        return ConfigError(message, path=str(self.path), line=line)


def in_words(mistake: Mapping[str, Any]) -> str:
    """One of a pydantic ValidationError's mistakes, for a person."""
    if mistake["type"] == "extra_forbidden":
        return "there is no such name here"
    message: str = mistake["msg"]
    return message.removeprefix("Value error, ")


def read_config_file(asked: Path | None = None) -> ConfigFile:
    """The file that applies. Raises ConfigError when it is named and absent, or is not right."""
    named = asked or os.environ.get("EDGESTEER_CONFIG")
    path = Path(named) if named else Path.cwd() / DEFAULT_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named:
            raise ConfigError("there is no such configuration file", path=str(path)) from None
        return ConfigFile(path, found=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", path=str(path)) from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        raise ConfigError(str(error), path=str(path), line=line) from None
    file = ConfigFile(path, True, text, data)
    for name, value in data.items():
        if name not in SECTIONS:
            tables = ", ".join(f"[{section}]" for section in SECTIONS)
            key = "" if isinstance(value, dict) else name
            raise file.error(name if not key else "", key, f"no table {name!r}; there are {tables}")
        if not isinstance(value, dict):
            raise file.error("", name, f"{name!r} is a table: write [{name}]")
    return file
