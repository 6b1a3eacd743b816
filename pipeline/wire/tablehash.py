"""The order-free hash of a table (law L4): the sum, modulo 2**64, of one hash a live record.

A sum does not care for order, so a publisher and any follower that hold the same records have the
same number whatever way they came by them; and a changed record costs one subtraction and one
addition. Rejected: xor, under which a record that is counted twice by mistake vanishes.
"""

from collections.abc import Iterable
from operator import add

from xxhash import xxh3_64_intdigest

#: Table hashes are taken modulo this.
MODULUS = 1 << 64


def record_hash(key: bytes, value: bytes) -> int:
    """What one live record adds to the hash of its table."""
    return xxh3_64_intdigest(key + value)


def records_hash(keys: Iterable[bytes], values: Iterable[bytes]) -> int:
    """What many live records add together, modulo 2**64; without a Python frame a record."""
    return sum(map(xxh3_64_intdigest, map(add, keys, values))) % MODULUS


def format_hash(table_hash: int) -> str:
    """16 hex digits, as an Epoch carries it."""
    return f"{table_hash % MODULUS:016x}"
