"""Longest match against a plain search; sessions spread by share and weight, and stay put."""

from collections import Counter
from ipaddress import IPv4Network, ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.follow.lookup import pick, rendezvous, who
from pipeline.follow.table import SteeringTable
from pipeline.wire.address import format_prefix, parse_address
from tests.follow_world import World, choice, group, prefix, weights

SESSIONS = range(4000)

networks = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False),
    st.integers(0, 2**32 - 1).map(lambda number: number & 0x030303FF),
    st.integers(0, 32),
)


@given(st.sets(networks, min_size=1, max_size=30), st.lists(st.integers(0, 2**26), min_size=1))
def test_the_answer_is_the_longest_network_that_holds_the_address(
    held: set[IPv4Network], numbers: list[int]
) -> None:
    world = World(SteeringTable())
    table = [prefix("eu", str(each), 1) for each in sorted(held)]
    world.publish([*table, group("eu", 1, [choice("ams", 10000, 10000, 10000)])])
    for number in numbers:
        address = ip_address(number)
        covering = [each for each in held if address in each]
        answer = who(world.table, parse_address(str(address)))
        longest = max(covering, key=lambda each: each.prefixlen, default=None)
        assert (answer and format_prefix(answer.prefix)) == (longest and str(longest))


def placed(candidates: dict[str, int]) -> dict[int, str | None]:
    each = [(name, weight, name) for name, weight in candidates.items()]
    return {session: rendezvous(session * 0x9E3779B97F4A7C15 % 2**64, each) for session in SESSIONS}


weighted = st.dictionaries(
    st.sampled_from([f"a{number}" for number in range(8)]), st.integers(1, 10_000), min_size=2
)


@settings(max_examples=20, deadline=None)
@given(weighted)
def test_sessions_spread_in_proportion_to_weight(candidates: dict[str, int]) -> None:
    found, total = Counter(placed(candidates).values()), sum(candidates.values())
    for name, weight in candidates.items():
        expected = weight / total
        # five standard deviations of a fair draw
        room = 5 * (expected * (1 - expected) / len(SESSIONS)) ** 0.5 + 1 / len(SESSIONS)
        assert abs(found[name] / len(SESSIONS) - expected) <= room


@settings(max_examples=20, deadline=None)
@given(weighted, st.data())
def test_a_weight_that_falls_moves_only_its_own_sessions(
    candidates: dict[str, int], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(candidates)))
    less = {**candidates, name: data.draw(st.integers(0, candidates[name]))}
    before, after = placed(candidates), placed(less)
    assert {before[each] for each in SESSIONS if before[each] != after[each]} <= {name}


@settings(max_examples=20, deadline=None)
@given(weighted, st.integers(2, 50))
def test_only_proportions_count(candidates: dict[str, int], factor: int) -> None:
    scaled = {name: weight * factor for name, weight in candidates.items()}
    moved = [
        session
        for (session, one), two in zip(
            placed(candidates).items(), placed(scaled).values(), strict=True
        )
        if one != two
    ]
    assert moved == []


def test_a_session_is_placed_by_share_and_then_by_weight_and_losing_one_moves_only_its_own() -> (
    None
):
    world = World(SteeringTable())
    world.publish(
        [
            weights("eu", "ams", a1=6000, a2=4000),
            weights("eu", "fra", f1=10000),
            group("eu", 1, [choice("ams", 7000, 0, 0), choice("fra", 3000, 0, 0)]),
            prefix("eu", "10.0.0.0/8", 1),
        ]
    )
    address = parse_address("10.1.2.3")
    before = {session: pick(world.table, address, "VOD", session) for session in SESSIONS}
    found = Counter(before.values())
    shares = {each and each.appliance: count / len(SESSIONS) for each, count in found.items()}
    assert abs(shares["a1"] - 0.42) < 0.04
    assert abs(shares["a2"] - 0.28) < 0.04
    assert abs(shares["f1"] - 0.30) < 0.04
    world.publish([weights("eu", "ams", a1=10000, a2=0)])
    for session, was in before.items():
        now = pick(world.table, address, "VOD", session)
        assert now is not None
        assert was is not None
        assert (now == was) is (was.appliance != "a2")
        assert now.site == was.site


def test_an_address_that_nothing_covers_is_picked_for_by_nobody() -> None:
    assert pick(SteeringTable(), parse_address("10.1.2.3"), "VOD", 1) is None
