"""Where a region's records go: partition = xxh3_64(region) modulo the number of partitions.

Every publisher and every cell must agree, so this is stable for ever (never `hash()`, which is
salted).
"""

import xxhash


def partition_of(region: str, partitions: int) -> int:
    """The partition of every record that belongs to `region`."""
    return xxhash.xxh3_64_intdigest(region.encode()) % partitions
