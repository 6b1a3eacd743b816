"""`python -m schemas.freeze`: add the current schemas to the committed history.

The history has one file for each version that was ever published, NAME.FINGERPRINT.avsc, so that a
record written with any of them can still be read. Files are only ever added: run this when a schema
changed, before the first record of the new version is sent, and commit what it adds.
"""

import json
import sys
from pathlib import Path

from fastavro.schema import fingerprint, to_parsing_canonical_form

FOLDER = Path(__file__).parent


def history_name(definition: dict[str, object]) -> str:
    """The file name under which a version of a record stands in the history."""
    mark = fingerprint(to_parsing_canonical_form(definition), "CRC-64-AVRO")
    return f"{definition['name']}.{mark}.avsc"


def freeze(folder: Path = FOLDER) -> list[Path]:
    """Copy each of `folder`/*.avsc that is not in `folder`/history yet; return what was added."""
    history = folder / "history"
    history.mkdir(exist_ok=True)
    added = []
    for path in sorted(folder.glob("*.avsc")):
        target = history / history_name(json.loads(path.read_text()))
        if not target.exists():
            target.write_text(path.read_text())
            added.append(target)
    return added


if __name__ == "__main__":
    for new in freeze():
        sys.stdout.write(f"added {new.name}\n")
