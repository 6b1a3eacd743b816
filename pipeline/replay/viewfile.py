"""A View as a file, so that what two versions of the code decided can be compared.

A ZIP archive like a recording: format.json first, a FRAME.arrow for each frame of the View (Arrow
IPC, zstd inside), manifest.json last with where it is from and each frame's rows and digest
(xxh3_64). The file gets its name when it is whole; reading it checks every member."""

import io
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import xxhash
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import RecordingError
from pipeline.replay.view import SCHEMAS, CellMoment, View

FORMAT, FORMAT_VERSION = "edgesteer view", 1
HEAD, MANIFEST = "format.json", "manifest.json"
#: What zipfile raises on bytes that are no archive, or no longer one.
_BROKEN = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class _Frame:
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Manifest:
    source: str
    cells: tuple[CellMoment, ...]
    code_version: int
    edgesteer: str
    frames: dict[str, _Frame]


_MANIFESTS = TypeAdapter(_Manifest)


def save_view(view: View, path: Path) -> None:
    """Write `view` to `path`, all of it or nothing. RecordingError when that cannot be."""
    part = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            head = {"format": FORMAT, "format_version": FORMAT_VERSION, "edgesteer": view.edgesteer}
            archive.writestr(HEAD, orjson.dumps(head))
            frames = {}
            for name, frame in view.frames().items():
                buffer = io.BytesIO()
                frame.write_ipc(buffer, compression="zstd")
                archive.writestr(f"{name}.arrow", buffer.getvalue())
                digest = xxhash.xxh3_64_hexdigest(buffer.getvalue())
                frames[name] = _Frame(frame.height, digest)
            manifest = _Manifest(view.source, view.cells, view.code_version, view.edgesteer, frames)
            archive.writestr(MANIFEST, orjson.dumps(asdict(manifest)))
        part.replace(path)
    except OSError as error:
        raise RecordingError(path, f"cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def is_view(path: Path) -> bool:
    """Whether the file says that it is a saved view, whole or not."""
    try:
        with path.open("rb") as file:
            return f'"format":"{FORMAT}"'.encode() in file.read(512)
    except OSError:
        return False


def load_view(path: Path) -> View:
    """The inverse of `save_view`. RecordingError for a file that is damaged or something else: what
    is wrong, and where."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror}") from error
    except _BROKEN as error:
        raise RecordingError(path, f"no whole {FORMAT}: {error}") from error
    with archive:
        _check_head(path, _json(path, archive, HEAD))
        try:
            manifest = _MANIFESTS.validate_python(_json(path, archive, MANIFEST))
        except ValidationError as error:
            raise RecordingError(path, f"not a manifest: {error}", MANIFEST) from error
        frames = {name: _frame(path, archive, name, manifest.frames) for name in SCHEMAS}
    return View(
        source=manifest.source,
        cells=manifest.cells,
        code_version=manifest.code_version,
        edgesteer=manifest.edgesteer,
        **frames,
    )


def _check_head(path: Path, head: dict[str, Any]) -> None:
    if head.get("format") != FORMAT:
        raise RecordingError(path, f"{head.get('format')!r} is not {FORMAT!r}", HEAD)
    if head.get("format_version") != FORMAT_VERSION:
        problem = (
            f"format version {head.get('format_version')}, made by edgesteer "
            f"{head.get('edgesteer')}; this one reads version {FORMAT_VERSION}"
        )
        raise RecordingError(path, problem, HEAD)


def _frame(
    path: Path, archive: zipfile.ZipFile, name: str, listed: dict[str, _Frame]
) -> pl.DataFrame:
    member = f"{name}.arrow"
    data = _member(path, archive, member)
    if name not in listed or xxhash.xxh3_64_hexdigest(data) != listed[name].digest:
        raise RecordingError(path, "not the frame that the manifest names", member)
    try:
        frame = pl.read_ipc(data)
    except pl.exceptions.PolarsError as error:
        raise RecordingError(path, f"no Arrow records: {error}", member) from error
    if dict(frame.schema) != SCHEMAS[name] or frame.height != listed[name].rows:
        raise RecordingError(path, "not the rows that the manifest names", member)
    return frame


def _json(path: Path, archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    try:
        found = orjson.loads(_member(path, archive, name))
    except orjson.JSONDecodeError as error:
        raise RecordingError(path, f"is no JSON: {error}", name) from error
    if not isinstance(found, dict):
        raise RecordingError(path, "is no JSON object", name)
    return found


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise RecordingError(path, "is missing", name) from None
    except _BROKEN as error:
        raise RecordingError(path, f"damaged: {error}", name) from error
