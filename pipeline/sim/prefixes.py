"""Client prefixes as nested as the Internet's: allocations, and what is announced inside them.

Idea: the length of a prefix and whether something shorter covers it are what a table feels. So
lengths are drawn in the proportions of a real table, a share of each length is laid out as
allocations that do not overlap, and the others are cut out of shorter prefixes, shortest first, so
that nesting is several levels deep.
Rule: allocations are placed from the largest to the smallest, one behind the other, hence aligned;
a deaggregate chooses its parent with a weight that grows with the parent's size.
Source: lengths as counted in the RouteViews table of 2015-11-01 (606,138 v4 and 27,693 v6
prefixes), without those longer than /24 and /48, which nobody carries, and shorter than /11.
Rejected: sampling that table itself (the demo must run without it); independent random prefixes
(hardly any would cover another).

Addresses are left-aligned in 64 bits: IPv4 in the upper half, IPv6 by its upper 64 bits.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]

IPV6_SHARE = 1 / 6
IPV4_MAX = 840_000  # of these lengths; the space of IPv4 is full then, and the rest are IPv6
#: length: (weight, share of them that are allocations)
IPV4_LENGTHS = {
    11: (97, 1.0), 12: (263, 1.0), 13: (508, 1.0), 14: (1035, 1.0), 15: (1802, 1.0),
    16: (13138, 0.6), 17: (7907, 0.5), 18: (13236, 0.5), 19: (27375, 0.5), 20: (39507, 0.4),
    21: (42113, 0.35), 22: (65336, 0.3), 23: (57549, 0.15), 24: (323926, 0.08),
}  # fmt: skip
IPV6_LENGTHS = {
    28: (70, 1.0), 29: (859, 1.0), 30: (100, 1.0), 31: (71, 1.0), 32: (7262, 0.9),
    33: (313, 0.0), 34: (213, 0.0), 35: (251, 0.0), 36: (1004, 0.1), 38: (203, 0.0),
    40: (1221, 0.1), 42: (200, 0.0), 44: (1125, 0.1), 46: (379, 0.1), 48: (12142, 0.15),
}  # fmt: skip
#: /8 blocks without anything private, reserved or documentary in them.
IPV4_BLOCKS = tuple(
    block for block in range(1, 224) if block not in {10, 100, 127, 169, 172, 192, 198, 203}
)
IPV6_BLOCKS = (0x240, 0x260, 0x280, 0x2A0)  # /12 each: APNIC, ARIN, LACNIC, RIPE NCC
_ROUNDS = 24  # of drawing, before a length counts as full
#: RFC 5737 and RFC 3849: a demo can name an address in these that is nobody's.
DOCUMENTATION = ((0xCB00_7100 << 32, 24, 4), (0x2001_0DB8 << 32, 32, 6))


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Columns over all prefixes. `hi`, `lo`, `length`: the common 128-bit space. `start`: the
    address left-aligned in 64 bits. `bits`: length within the family. `allocation`: dense number
    of the allocation that it is or lies in. `is_allocation` marks those. The documentation
    networks are the first two, allocations 0 and 1."""

    hi: U64
    lo: U64
    length: U8
    start: U64
    bits: U8
    is_ipv4: npt.NDArray[np.bool_]
    allocation: I32
    is_allocation: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.hi.shape[0])

    def matrix(self) -> U8:
        """As 17 bytes each."""
        out = np.empty((len(self), 17), dtype=np.uint8)
        out[:, :16] = addresses(self.hi, self.lo)
        out[:, 16] = self.length
        return out


def addresses(hi: U64, lo: U64) -> U8:
    """Addresses as 16 bytes each."""
    pair = np.stack([hi, lo], axis=1).astype(">u8")
    return pair.view(np.uint8).reshape(-1, 16)


def generate(rng: np.random.Generator, count: int) -> Prefixes:
    """`count` distinct prefixes of both families."""
    drawn = count - len(DOCUMENTATION)
    four = min(drawn - round(drawn * IPV6_SHARE), IPV4_MAX)
    six = drawn - four
    starts, bits, allocations, own, families = [], [], [], [], []
    taken = len(DOCUMENTATION)
    starts.append(np.array([network for network, _, _ in DOCUMENTATION], dtype=np.uint64))
    bits.append(np.array([length for _, length, _ in DOCUMENTATION], dtype=np.uint8))
    families.append(np.array([family == 4 for _, _, family in DOCUMENTATION]))
    allocations.append(np.arange(taken, dtype=np.int32))
    own.append(np.ones(taken, dtype=bool))
    for total, lengths, blocks, wide in (
        (four, IPV4_LENGTHS, IPV4_BLOCKS, 8),
        (six, IPV6_LENGTHS, IPV6_BLOCKS, 12),
    ):
        start, length, allocation, is_own = _family(rng, total, lengths, blocks, wide)
        starts.append(start)
        bits.append(length)
        allocations.append(allocation + np.int32(taken))
        own.append(is_own)
        families.append(np.full(total, wide == 8))
        taken += int(is_own.sum())
    start, bit, is_ipv4 = np.concatenate(starts), np.concatenate(bits), np.concatenate(families)
    return Prefixes(
        hi=np.where(is_ipv4, np.uint64(0), start),
        lo=np.where(is_ipv4, np.uint64(0xFFFF << 32) | (start >> np.uint64(32)), np.uint64(0)),
        length=(bit + np.where(is_ipv4, 96, 0)).astype(np.uint8),
        start=start,
        bits=bit,
        is_ipv4=is_ipv4,
        allocation=np.concatenate(allocations),
        is_allocation=np.concatenate(own),
    )


def _family(
    rng: np.random.Generator,
    total: int,
    lengths: dict[int, tuple[int, float]],
    blocks: tuple[int, ...],
    block_bits: int,
) -> tuple[U64, U8, I32, npt.NDArray[np.bool_]]:
    """(start, length, allocation, is allocation) of `total` prefixes of one family."""
    counts = _apportion(total, {length: weight for length, (weight, _) in lengths.items()})
    own: dict[int, int] = {}
    for length, (_, share) in lengths.items():
        roomy = any(own.values())  # the first that there are have nothing to lie in
        own[length] = round(counts[length] * share) if roomy else counts[length]
    bits = np.repeat(np.array(list(own), dtype=np.uint8), list(own.values()))
    start = _lay_out(rng, bits, blocks, block_bits)
    allocation = np.arange(bits.size, dtype=np.int32)
    roots, carried = bits.size, 0
    for length in lengths:
        missing = counts[length] - own[length] + carried
        new, parent = _cut_out(rng, start, bits, length, missing)
        carried = missing - new.size  # a length for which the shorter ones had no room
        start = np.concatenate([start, new])
        bits = np.concatenate([bits, np.full(new.size, length, dtype=np.uint8)])
        allocation = np.concatenate([allocation, allocation[parent]])
    assert not carried, "prefixes left over"
    return start, bits, allocation, np.arange(total) < roots


def _apportion(total: int, weights: dict[int, int]) -> dict[int, int]:
    """`total` in the proportions of `weights`; what rounding leaves goes to the last."""
    whole = sum(weights.values())
    counts = {length: total * weight // whole for length, weight in weights.items()}
    counts[max(weights)] += total - sum(counts.values())
    return counts


def _lay_out(rng: np.random.Generator, bits: U8, blocks: tuple[int, ...], block_bits: int) -> U64:
    """Disjoint starts for lengths that ascend: one behind the other, over shuffled blocks."""
    size = np.uint64(1) << (np.uint64(64) - bits)
    end = np.cumsum(size, dtype=np.uint64)
    room = 64 - block_bits
    assert float(size.astype(float).sum()) <= len(blocks) * float(1 << room), "space is full"
    begin = end - size
    order = rng.permutation(np.array(blocks, dtype=np.uint64))
    inside = begin & np.uint64((1 << room) - 1)
    return (order[(begin >> np.uint64(room)).astype(np.intp)] << np.uint64(room)) | inside


def _cut_out(
    rng: np.random.Generator, start: U64, bits: U8, length: int, missing: int
) -> tuple[U64, npt.NDArray[np.intp]]:
    """Up to `missing` new prefixes of `length` inside shorter ones: (starts, index of each one's
    parent). Fewer when there is hardly room, as between a /16 and its two /17."""
    eligible = np.flatnonzero(bits < length)
    if not missing or not eligible.size:
        return np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.intp)
    weight = np.cumsum(np.left_shift(1, (length - bits[eligible].astype(np.int64) + 1) // 2))
    known = start[bits == length]
    found, parents = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.intp)
    for _ in range(_ROUNDS):
        if found.size == missing:
            break
        draws = (missing - found.size) * 5 // 4 + 16
        parent = eligible[np.searchsorted(weight, rng.integers(weight[-1], size=draws), "right")]
        slots = np.left_shift(np.int64(1), length - bits[parent].astype(np.int64))
        slot = rng.integers(slots).astype(np.uint64)
        new = start[parent] | (slot << np.uint64(64 - length))
        merged = np.concatenate([found, new])
        first = np.sort(np.unique(merged, return_index=True)[1])
        first = first[~np.isin(merged[first], known)]
        parents = np.concatenate([parents, parent])[first][:missing]
        found = merged[first][:missing]
    return found, parents
