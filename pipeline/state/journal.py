"""What changed since a version: ids by version, the oldest entries making room."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.state.codec import Fields
from pipeline.state.keyindex import distinct

Int32 = npt.NDArray[np.int32]


class Journal:
    """`version` grows with every change; what changed at or before `floor` is forgotten."""

    def __init__(self, version: int = 0) -> None:
        self.version = self.floor = version
        self._entries: list[tuple[int, Int32]] = []
        self._size = 0

    def fields(self) -> dict[str, Any]:
        """All of it for a snapshot."""
        return {
            "version": self.version,
            "floor": self.floor,
            "at": np.array([version for version, _ in self._entries], np.int64),
            "count": np.array([len(ids) for _, ids in self._entries], np.int64),
            "ids": np.concatenate([np.empty(0, np.int32), *(ids for _, ids in self._entries)]),
        }

    @classmethod
    def of(cls, fields: Fields) -> "Journal":
        """The inverse of `fields`."""
        made = cls(fields["version"])
        made.floor, made._size = fields["floor"], len(fields["ids"])
        ends = np.cumsum(fields["count"])
        parts = np.split(fields["ids"], ends[:-1]) if len(ends) else []
        made._entries = list(zip(fields["at"].tolist(), parts, strict=True))
        return made

    def put(self, changed: Int32, most: int) -> None:
        """A new version in which these changed; of all entries so many ids are kept."""
        if not len(changed):
            return
        self.version += 1
        changed = distinct(changed)
        self._entries.append((self.version, changed))
        self._size += len(changed)
        while self._size > most:
            self.floor, dropped = self._entries.pop(0)
            self._size -= len(dropped)

    def since(self, version: int) -> Int32 | None:
        """What changed after `version` (ascending); None: it is not known any more."""
        if version < self.floor:
            return None
        parts = [ids for at, ids in self._entries if at > version]
        return distinct(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int32)

    def count_since(self, version: int) -> int | None:
        """How often something changed after `version`; None as for `since`."""
        if version < self.floor:
            return None
        return sum(len(ids) for at, ids in reversed(self._entries) if at > version)
