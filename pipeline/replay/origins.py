"""The records of the log that say what was decided when: cuts, configurations, Epochs."""

from contextlib import suppress

from pipeline.errors import WireError
from pipeline.replay.archive import Recording
from pipeline.replay.fold import cut_of, epoch_of
from pipeline.replay.provenance import Records, Source
from pipeline.wire.decode import decode
from schemas.registry import STEERING_CONFIG, STEERING_CUTS, STEERING_EPOCHS


def cut_records(recording: Recording, partition: int) -> dict[tuple[int, int, str], Source]:
    """(number, term, writer) -> the cut's record; of two alike the first is the one that counts."""
    found: dict[tuple[int, int, str], Source] = {}
    topic = STEERING_CUTS.name
    for frame in recording.frames(topic, partition):
        for offset, at_ms, key, value in frame.iter_rows():
            cut = cut_of(value)
            if cut is not None:
                source = Source(topic, partition, offset, at_ms, key, value)
                found.setdefault((cut.number, cut.term, cut.writer), source)
    return found


def config_records(recording: Recording) -> dict[str, Source]:
    """Hash -> the first record that the configuration stands in."""
    found: dict[str, Source] = {}
    for frame in recording.frames(STEERING_CONFIG.name, 0):
        for offset, at_ms, key, value in frame.iter_rows():
            with suppress(WireError):
                name, record = decode(value or b"")
                if name == "Config":
                    source = Source(STEERING_CONFIG.name, 0, offset, at_ms, key, value)
                    found.setdefault(record["hash"], source)
    return found


class Epochs:
    """The Epochs of one cell."""

    def __init__(self, recording: Recording, partition: int, records: Records) -> None:
        self._records = records
        #: cut -> (offset, table hash, table topic -> end offset) of its first Epoch.
        self._found: dict[int, tuple[int, str, dict[str, int]]] = {}
        for frame in recording.frames(STEERING_EPOCHS.name, partition):
            for offset, value in frame.select("offset", "value").iter_rows():
                epoch = epoch_of(value)
                if epoch is not None:
                    ends = {one["topic"]: one["end_offset"] for one in epoch["outputs"]}
                    self._found.setdefault(epoch["cut"], (offset, epoch["table_hash"], ends))

    def judge(self, cut: int, table_hash: int) -> tuple[Source | None, bool | None]:
        """The Epoch of a cut, and whether it says this hash; (None, None) without one."""
        found = self._found.get(cut)
        if found is None:
            return None, None
        return self._records.at(STEERING_EPOCHS.name, found[0]), found[1] == f"{table_hash:016x}"

    def between(self, topic: str, cut: int) -> tuple[int, int, Source | None]:
        """The offsets [first, end) between which the cut's records of a table topic lie, and its
        Epoch; -1 for what no Epoch says."""
        found, before = self._found.get(cut), self._found.get(cut - 1)
        if found is None:
            return -1, -1, None
        first = before[2].get(topic, -1) if before is not None else 0 if cut == 1 else -1
        return first, found[2].get(topic, -1), self._records.at(STEERING_EPOCHS.name, found[0])
