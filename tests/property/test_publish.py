"""L4: the hash kept up by differences is the hash of what stands on the topics; L7: never empty."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decide.serving import Ranked, ServedGroups
from pipeline.effects import Block, Record
from pipeline.publish import Ledger
from pipeline.publishedprefixes import PublishedPrefixes, bytes_of, keys_of
from pipeline.wire.tablehash import MODULUS, record_hash
from schemas.registry import LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, TABLES

NAMES = ["ams", "fra", "par", "waw"]
REGIONS = ["eu", "us-east"]


class Topics:
    """Compacted topics as a follower that reads every record holds them."""

    def __init__(self) -> None:
        self.held: dict[str, dict[bytes, bytes]] = {topic.name: {} for topic in TABLES}

    def take(self, effects: list[Record | Block]) -> None:
        for effect in effects:
            for one in effect.records() if isinstance(effect, Block) else [effect]:
                if one.value is None:
                    del self.held[one.topic][one.key]
                else:
                    assert self.held[one.topic].get(one.key) != one.value
                    self.held[one.topic][one.key] = one.value

    def table_hash(self) -> int:
        live = (pair for held in self.held.values() for pair in held.items())
        return sum(record_hash(key, value) for key, value in live) % MODULUS


def ranked(groups: dict[int, list[int]]) -> Ranked:
    site = np.array([site for sites in groups.values() for site in sites], np.int32)
    return Ranked(
        group=np.array(list(groups), np.uint64),
        count=np.array([len(sites) for sites in groups.values()], np.int64),
        site=site,
        tier=np.zeros(len(site), np.int32),
        as_path_len=np.ones(len(site), np.int32),
        med=np.full(len(site), -1, np.int64),
        rtt_ms=np.full(len(site), -1, np.int32),
        distance_km=np.full(len(site), -1, np.int32),
        last=np.zeros(len(site), np.uint8),
    )


def prefixes(numbers: list[int]) -> np.ndarray:
    rows = [number.to_bytes(16, "big") + bytes([128]) for number in numbers]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 17)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("weights"), st.sampled_from(NAMES), st.binary(max_size=3)),
        st.tuples(st.just("unweigh"), st.sampled_from(NAMES)),
        st.tuples(
            st.just("prefixes"),
            st.sampled_from(REGIONS),
            st.dictionaries(st.integers(0, 300), st.integers(0, 4), max_size=6),
            st.sets(st.integers(0, 300), max_size=6),
        ),
        st.tuples(
            st.just("groups"),
            st.sampled_from(REGIONS),
            st.dictionaries(
                st.integers(0, 9),
                st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
                max_size=4,
            ),
            st.sets(st.integers(0, 9), max_size=4),
        ),
        st.tuples(st.just("share"), st.sampled_from(REGIONS), st.integers(0, 9)),
    ),
    max_size=25,
)


def play(steps: list) -> tuple[Ledger, Topics]:
    """Do the steps, and hold the hash against the topics after each."""
    ledger, topics = Ledger(), Topics()
    for region in REGIONS:
        ledger.prefixes[region] = PublishedPrefixes()
        ledger.groups[region] = ServedGroups()
    for what, *rest in steps:
        if what == "weights":
            topics.take(ledger.set_weights([tuple(rest)]))
        elif what == "unweigh":
            topics.take(ledger.drop_weights(*rest))
        elif what == "prefixes":
            region, given_, gone = rest
            group = np.array(list(given_.values()), np.uint64)
            removed = keys_of(prefixes(sorted(gone - given_.keys())))
            diff = ledger.prefixes[region].diff(keys_of(prefixes(list(given_))), group, removed)
            added, removed_blocks = ledger.set_prefixes(region, diff)
            topics.take([*added, *removed_blocks])
        elif what == "groups":
            region, given_, gone = rest
            served = ledger.groups[region]
            died = np.array(sorted(gone), np.uint64)
            topics.take(ledger.drop_groups(region, died))
            fresh = {g: s for g, s in given_.items() if g in gone or served.slots(_one(g))[0] < 0}
            served.change(ranked(fresh), died)
            topics.take(ledger.set_groups(region, NAMES))
        else:
            region, group = rest
            served = ledger.groups[region]
            slot = int(served.slots(_one(group))[0])
            if slot >= 0:
                served.shares[served.offsets[slot], 0] += 1
                served.dirty[slot] = True
            topics.take(ledger.set_groups(region, NAMES))
        assert ledger.table_hash == topics.table_hash()
    return ledger, topics


def _one(group: int) -> np.ndarray:
    return np.array([group], np.uint64)


@given(STEPS)
def test_l4_the_hash_kept_up_is_the_hash_of_the_live_records(steps: list) -> None:
    ledger, topics = play(steps)
    assert ledger.prefix_count() == len(topics.held[STEERING_PREFIXES.name])
    assert ledger.group_count() == len(topics.held[STEERING_GROUPS.name])
    assert len(ledger.weights) == len(topics.held[LB_WEIGHTS.name])


@given(STEPS)
def test_l4_a_full_table_is_what_the_deltas_came_to(steps: list) -> None:
    ledger, topics = play(steps)
    for topic in TABLES:
        assert dict(ledger.records(topic.name, NAMES)) == topics.held[topic.name]


@given(STEPS, STEPS)
def test_reconciling_makes_a_topic_hold_what_is_published(steps: list, others: list) -> None:
    ledger, _ = play(steps)
    _, stale = play(others)
    for topic in TABLES:
        held = stale.held[topic.name]
        ours = dict(ledger.records(topic.name, NAMES))
        records = ledger.reconcile(topic.name, held, NAMES)
        after = dict(held)
        for one in records:
            assert after.get(one.key) != one.value
            if one.value is None:
                del after[one.key]
            else:
                after[one.key] = one.value
        assert after == (ours or held)


@given(STEPS)
def test_l7_the_last_weights_are_never_removed(steps: list) -> None:
    ledger, topics = play(steps)
    for name in NAMES:
        topics.take(ledger.drop_weights(name))
    assert bool(ledger.weights) == any(step[0] == "weights" for step in steps)


@given(st.lists(st.binary(min_size=17, max_size=17), unique=True))
def test_prefixes_as_items_keep_bytes_and_order(rows: list[bytes]) -> None:
    matrix = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 17)
    keys = keys_of(matrix)
    assert (bytes_of(keys) == matrix).all()
    assert bytes_of(np.sort(keys)).tobytes() == b"".join(sorted(rows))


def test_a_diff_to_a_whole_table_changes_no_more_than_it_must() -> None:
    published = PublishedPrefixes()
    first = keys_of(prefixes([1, 2, 3]))
    published.apply(published.diff(first, np.array([7, 7, 7], np.uint64), first[:0]))
    diff = published.diff_to(keys_of(prefixes([2, 3, 4])), np.array([7, 8, 9], np.uint64))
    assert bytes_of(diff.set_keys)[:, 15].tolist() == [3, 4]
    assert diff.known.tolist() == [True, False]
    assert bytes_of(diff.removed_keys)[:, 15].tolist() == [1]
    published.apply(diff)
    assert bytes_of(published.keys)[:, 15].tolist() == [2, 3, 4]
    assert published.group.tolist() == [7, 8, 9]
