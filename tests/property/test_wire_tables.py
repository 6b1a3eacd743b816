"""The fast encoders write what the plain one writes, byte for byte."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pytest import mark

from pipeline.effects import Block
from pipeline.reasons import Reason
from pipeline.wire.encode import encode
from pipeline.wire.rowbytes import Texts
from pipeline.wire.tablehash import records_hash
from pipeline.wire.tables import (
    PASSED_REASONS,
    GroupColumns,
    WeightColumns,
    block_hash,
    encode_groups,
    encode_weights,
    group_bytes,
    group_key,
    prefix_keys,
    prefix_values,
)

NAMES = ["s", "site-0001", "Zürich", "x" * 70]
CLASSES = ["VOD", "LIVE", "GAME"]
OPTIONAL = st.one_of(
    st.just(-1), st.integers(0, 2**31 - 1), st.sampled_from([0, 63, 64, 8191, 8192])
)


@st.composite
def entries(draw: st.DrawFn) -> dict:
    return {
        "site": draw(st.integers(0, len(NAMES) - 1)),
        "tier": draw(st.integers(0, 300)),
        "as_path_len": draw(st.sampled_from([0, 1, 63, 64, 255, 1000])),
        "med": draw(st.one_of(OPTIONAL, st.integers(0, 2**32 - 1))),
        "rtt_ms": draw(OPTIONAL),
        "distance_km": draw(OPTIONAL),
        "shares": draw(st.lists(st.integers(0, 10_000), min_size=3, max_size=3)),
        "passed": draw(st.lists(st.integers(0, 3), min_size=3, max_size=3)),
    }


GROUPS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.lists(entries(), min_size=1, max_size=6)),
    min_size=1,
    max_size=6,
)


def columns_of(region: str, groups: list) -> GroupColumns:
    flat = [entry for _, members in groups for entry in members]
    column = {name: [entry[name] for entry in flat] for name in flat[0]}
    return GroupColumns(
        region=region,
        names=NAMES,
        group=np.array([group for group, _ in groups], np.uint64),
        offsets=np.cumsum([0, *(len(members) for _, members in groups)]),
        site=np.array(column["site"], np.int32),
        tier=np.array(column["tier"], np.int32),
        as_path_len=np.array(column["as_path_len"], np.int32),
        med=np.array(column["med"], np.int64),
        rtt_ms=np.array(column["rtt_ms"], np.int32),
        distance_km=np.array(column["distance_km"], np.int32),
        shares=np.array(column["shares"], np.int16),
        passed=np.array(column["passed"], np.uint8),
    )


def plain(region: str, group: int, members: list[dict]) -> bytes:
    def optional(value: int) -> int | None:
        return None if value < 0 else value

    return encode(
        "GroupEntry",
        {
            "region": region,
            "group": group.to_bytes(8, "big"),
            "sites": [
                {
                    "site": NAMES[one["site"]],
                    "tier": one["tier"],
                    "as_path_len": one["as_path_len"],
                    "med": optional(one["med"]),
                    "rtt_ms": optional(one["rtt_ms"]),
                    "distance_km": optional(one["distance_km"]),
                    "shares": one["shares"],
                }
                for one in members
            ],
            "passed_over": [
                {
                    "site": NAMES[one["site"]],
                    "traffic_class": CLASSES[klass],
                    "reason": PASSED_REASONS[code - 1].value,
                }
                for one in members
                for klass, code in enumerate(one["passed"])
                if code
            ],
        },
    )


@given(st.text(min_size=1, max_size=80), GROUPS)
def test_groups_are_encoded_as_the_plain_encoder_does(region: str, groups: list) -> None:
    fast = list(encode_groups(columns_of(region, groups)))
    assert fast == [plain(region, group, members) for group, members in groups]


def test_groups_of_several_chunks_keep_their_order() -> None:
    member = {"site": 1, "tier": 0, "as_path_len": 3, "med": -1, "rtt_ms": -1, "distance_km": 9}
    member |= {"shares": [10_000, 0, 0], "passed": [0, 0, 2]}
    groups = [(number, [member] * (1 + number % 3)) for number in range(20_000)]
    fast = list(encode_groups(columns_of("eu", groups)))
    assert len(fast) == len(groups)
    for number in (0, 8_191, 8_192, 19_999):
        assert fast[number] == plain("eu", number, groups[number][1])


@given(
    st.text(min_size=1, max_size=80),
    st.lists(st.tuples(st.binary(min_size=17, max_size=17), st.integers(0, 2**64 - 1)), max_size=5),
)
def test_prefixes_are_encoded_as_the_plain_encoder_does(region: str, rows: list) -> None:
    prefix = np.frombuffer(b"".join(p for p, _ in rows), np.uint8).reshape(-1, 17)
    values = prefix_values(prefix, np.array([g for _, g in rows], np.uint64), region)
    keys = prefix_keys(prefix, region)
    assert [bytes(row) for row in values] == [
        encode("PrefixEntry", {"region": region, "prefix": p, "group": g.to_bytes(8, "big")})
        for p, g in rows
    ]
    assert [bytes(row) for row in keys] == [p + region.encode() for p, _ in rows]


def test_a_group_has_the_same_bytes_in_keys_and_records() -> None:
    assert group_key(1, "eu") == b"\0\0\0\0\0\0\0\x01eu"
    assert group_bytes(np.array([1], np.uint64)).tobytes() == group_key(1, "")


APPLIANCES = st.lists(
    st.tuples(
        st.text(max_size=90),
        st.integers(0, 10_000),
        st.sampled_from(["UP", "DOWN"]),
        st.sampled_from(list(Reason)),
    ),
    min_size=1,
    max_size=70,
)


@given(st.lists(st.tuples(st.text(max_size=20), st.sampled_from(NAMES), APPLIANCES), max_size=4))
def test_weights_are_the_bytes_of_encode(
    sites: list[tuple[str, str, list[tuple[str, int, str, str]]]],
) -> None:
    names = ("appliance", "weight", "state", "reason")
    flat = [one for _, _, appliances in sites for one in appliances]
    plain = [
        encode(
            "SiteWeights",
            {
                "region": region,
                "site": site,
                "appliances": [dict(zip(names, one, strict=True)) for one in appliances],
            },
        )
        for region, site, appliances in sites
    ]
    columns = WeightColumns(
        place=[(region, site) for region, site, _ in sites],
        counts=np.array([len(appliances) for *_, appliances in sites], np.int64),
        names=Texts.strings(one[0] for one in flat),
        appliance=np.arange(len(flat)),
        weight=np.array([one[1] for one in flat], np.int64),
        standings=Texts.pairs((one[2], one[3]) for one in flat),
        standing=np.arange(len(flat)),
    )
    assert list(encode_weights(columns)) == plain


@mark.parametrize("chunk", [1, 7, 20, 21, 100])
def test_a_block_is_its_records_however_many_are_read_at_a_time(chunk: int) -> None:
    draw = np.random.default_rng(chunk)
    keys = draw.integers(0, 256, (20, 5)).astype(np.uint8)
    values = draw.integers(0, 256, (20, 9)).astype(np.uint8)
    whole = [one.tobytes() for one in keys], [one.tobytes() for one in values]
    with patch("pipeline.effects._CHUNK", chunk), patch("pipeline.wire.tables._CHUNK", chunk):
        found = [(one.key, one.value) for one in Block("a", keys, values).records()]
        assert found == list(zip(*whole, strict=True))
        gone = [(one.key, one.value) for one in Block("a", keys, None).records()]
        assert gone == [(key, None) for key in whole[0]]
        assert block_hash(keys, values) == records_hash(*whole)
    assert block_hash(keys[:0], values[:0]) == 0
