"""Compressed files: members one after another, padding, cuts and damage."""

import bz2
import gzip
import os
from pathlib import Path

import pytest

from pipeline.feeds.compressed import OUTPUT_BYTES, Source

DATA = os.urandom(70_000) + b"\0" * 3_000_000


def read(tmp_path: Path, data: bytes) -> tuple[bytes, Source]:
    path = tmp_path / "file"
    path.write_bytes(data)
    source = Source(path)
    chunks = list(source.chunks())
    assert max(map(len, chunks), default=0) <= OUTPUT_BYTES
    return b"".join(chunks), source


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_the_content_comes_whole(tmp_path: Path, compress: type) -> None:
    packed = compress(DATA)
    content, source = read(tmp_path, packed)
    assert (content == DATA, source.damage, source.read_bytes) == (True, "", len(packed))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_members_follow_one_another_and_padding_is_no_damage(
    tmp_path: Path, compress: type
) -> None:
    content, source = read(
        tmp_path, compress(b"one") + compress(DATA) + compress(b"two") + bytes(512)
    )
    assert (content == b"one" + DATA + b"two", source.damage) == (True, "")


def test_members_of_both_kinds_may_be_mixed(tmp_path: Path) -> None:
    content, source = read(tmp_path, gzip.compress(b"one") + bz2.compress(b"two"))
    assert (content, source.damage) == (b"onetwo", "")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_cut_file_gives_what_came_before_the_cut(tmp_path: Path, compress: type) -> None:
    content, source = read(tmp_path, compress(b"whole") + compress(DATA)[:-20])
    assert content.startswith(b"whole")
    assert (b"whole" + DATA).startswith(content)
    assert source.damage == "the compressed file is cut off"


def test_a_cut_gzip_file_loses_nothing_before_the_cut(tmp_path: Path) -> None:
    content, source = read(tmp_path, gzip.compress(DATA)[:-8])  # only the checksum is missing
    assert content == DATA
    assert source.damage


def test_a_wrong_byte_is_damage_and_what_came_before_it_stands(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(DATA))
    packed[-5] ^= 0xFF  # in the checksum, so that every byte of content can be had
    content, source = read(tmp_path, bytes(packed))
    assert content == DATA
    assert "incorrect" in source.damage
    packed = bytearray(bz2.compress(DATA))
    packed[len(packed) // 2] ^= 0xFF
    assert read(tmp_path, bytes(packed))[1].damage


def test_rubbish_behind_the_end_is_named(tmp_path: Path) -> None:
    content, source = read(tmp_path, gzip.compress(b"one") + b"rubbish")
    assert (content, source.damage) == (b"one", "7 bytes or more behind the end")


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path, b"")[0] == b""
