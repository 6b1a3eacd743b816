"""Recordings: what goes in comes out; what is damaged, cut off or something else is refused with
what is wrong and where; an interrupt leaves nothing."""

import random
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import RecordingError
from pipeline.replay import archive
from pipeline.replay.archive import Recording, RecordingWriter
from pipeline.replay.manifest import CellSpan, Manifest
from schemas.registry import FLEET_INVENTORY, PLAY_EVENTS

Row = tuple[int, int, bytes | None, bytes | None]


def rows(count: int, seed: int = 1) -> list[Row]:
    chance, offset, made = random.Random(seed), 7, list[Row]()
    for number in range(count):
        offset += chance.choice([1, 1, 1, 4])  # compaction leaves gaps
        value = None if number % 9 == 4 else chance.randbytes(chance.randrange(60))
        made.append((offset, 1_000 + number, b"k%d" % number if number % 5 else None, value))
    return made


def write(path: Path, count: int = 400) -> dict[tuple[str, int], list[Row]]:
    held = {
        (FLEET_INVENTORY.name, 0): rows(count, 1),
        (PLAY_EVENTS.name, 0): rows(count, 2),
        (PLAY_EVENTS.name, 3): rows(count // 2, 3),
    }
    with RecordingWriter(path, Manifest(4, 10, 20, cells=[CellSpan(0), CellSpan(3)])) as writer:
        for start in range(0, count, 50):
            for (topic, partition), records in held.items():
                writer.add(topic, partition, records[start : start + 50])
        writer.finish()
    return held


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.rec"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "PART_BYTES", 2_000)


def test_what_goes_in_comes_out_part_by_part(path: Path) -> None:
    held = write(path)
    with Recording(path) as recording:
        assert (recording.manifest.partitions, recording.manifest.to_ms) == (4, 20)
        assert [cell.partition for cell in recording.manifest.cells] == [0, 3]
        for (topic, partition), records in held.items():
            frames = list(recording.frames(topic, partition))
            assert len(frames) > 1
            assert [row for frame in frames for row in frame.iter_rows()] == records
        assert recording.manifest.records == {FLEET_INVENTORY.name: 400, PLAY_EVENTS.name: 600}
        assert list(recording.frames(PLAY_EVENTS.name, 1)) == []


def test_it_says_what_it_is_and_carries_every_schema(path: Path) -> None:
    write(path)
    with zipfile.ZipFile(path) as plain:
        assert plain.namelist()[0] == "format.json"
        assert plain.namelist()[-1] == "manifest.json"
        assert b'"format":"edgesteer recording"' in plain.read("format.json")
    with Recording(path) as recording:
        names = {schema["name"] for schema in recording.manifest.schemas}
        assert {"Cut", "Epoch", "Config", "PlayEvent", "Route"} <= names
        assert recording.manifest.edgesteer
        assert recording.manifest.code_version


def test_cut_off_anywhere_it_is_refused(path: Path) -> None:
    write(path, 60)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as plain:
        starts = [info.header_offset for info in plain.infolist()]
        starts.append(plain.start_dir)
    sizes = {start + near for start in starts for near in (-3, 0, 1, 9, 40)}
    sizes |= {*range(40), *range(len(whole) - 40, len(whole)), *range(0, len(whole), 701)}
    for size in sorted(size for size in sizes if 0 <= size < len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordingError) as caught:
            Recording(path)
        assert str(caught.value).startswith(str(path))
        if size > 100:
            assert f"byte {size}" in caught.value.problem


def test_one_bit_turned_anywhere_is_refused_or_without_effect(path: Path) -> None:
    held = write(path, 60)
    whole = path.read_bytes()
    refused = 0
    places = range(0, len(whole), 97)
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            with Recording(path) as recording:
                for (topic, partition), records in held.items():
                    frames = recording.frames(topic, partition)
                    assert [row for frame in frames for row in frame.iter_rows()] == records
        except RecordingError:
            refused += 1
    assert refused > len(places) / 2  # the rest is what ZIP says twice, dates and the like


def test_damage_is_named_by_the_member_it_is_in(path: Path) -> None:
    write(path)
    with zipfile.ZipFile(path) as plain:
        info = plain.getinfo("play.events/3/000001.arrow")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordingError) as caught:
        Recording(path)
    assert caught.value.member == "play.events/3/000001.arrow"
    assert "damaged" in caught.value.problem


def rewrite(path: Path, change: dict[str, bytes | None]) -> None:
    """The same archive, as ZIP well formed, with other or without some members."""
    with zipfile.ZipFile(path) as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w") as other:
        for name, data in (members | change).items():
            if data is not None:
                other.writestr(name, data)


@pytest.mark.parametrize(
    ("member", "data", "problem"),
    [
        ("format.json", None, "without format.json"),
        ("format.json", b"{}", "is not 'edgesteer recording'"),
        ("format.json", b"[]", "no JSON object"),
        ("format.json", b'{"format":"edgesteer recording","format_version":9}', "version 9"),
        ("manifest.json", None, "missing"),
        ("manifest.json", b"{", "no JSON"),
        ("manifest.json", b'{"partitions":"many"}', "not a manifest"),
        ("play.events/0/000000.arrow", None, "missing"),
        ("play.events/0/000000.arrow", b"ARROW1", "not the part that the manifest names"),
    ],
)
def test_an_archive_that_somebody_changed_is_refused(
    path: Path, member: str, data: bytes | None, problem: str
) -> None:
    write(path)
    rewrite(path, {member: data})
    with pytest.raises(RecordingError, match=problem):
        Recording(path)


def test_schemas_that_this_version_does_not_know_are_refused_by_name(path: Path) -> None:
    newer = {"type": "record", "name": "Health", "fields": [{"name": "mood", "type": "string"}]}
    manifest = Manifest(1, 0, 1)
    with RecordingWriter(path, manifest) as writer:
        manifest.schemas.append(newer)
        writer.finish()
    with pytest.raises(RecordingError, match=r"does not know: Health"):
        Recording(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"PK", "cut off at byte 2"),
        (b"MThd\0\0\0\6and so on", "no edgesteer recording: begins with 4d 54 68 64"),
        (b"PK\3\4" + bytes(600), "no edgesteer recording"),
    ],
)
def test_foreign_files_are_refused(path: Path, data: bytes, problem: str) -> None:
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=problem):
        Recording(path)


def test_what_is_not_there_and_what_is_a_folder_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "nothing", tmp_path):
        with pytest.raises(RecordingError, match="cannot be read"):
            Recording(place)
    for place in (tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(RecordingError, match="cannot be written"):
            write(place)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_nothing_and_keeps_what_was_there(
    path: Path, kind: type[BaseException]
) -> None:
    for before in ([], [path]):
        with pytest.raises(kind), RecordingWriter(path, Manifest(1, 0, 1)) as writer:
            writer.add(PLAY_EVENTS.name, 0, rows(300))
            raise kind
        assert list(path.parent.iterdir()) == before
        path.write_bytes(b"an older one")
    assert path.read_bytes() == b"an older one"
    write(path)
    Recording(path)


def test_a_writer_that_was_left_before_its_end_leaves_nothing(path: Path) -> None:
    with RecordingWriter(path, Manifest(1, 0, 1)) as writer:
        writer.add(PLAY_EVENTS.name, 0, rows(3))
    assert list(path.parent.iterdir()) == []
