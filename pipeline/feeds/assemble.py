"""Parts of a Route record in Avro's binary form, to be joined by hand (pipeline/feeds/routes.py).

Avro writes the fields of a record one behind the other and nothing in between, so a record whose
parts are known is their concatenation. Source: Avro 1.12 specification, binary encoding.
"""

from functools import lru_cache

from pipeline.feeds.bgp import Attributes


@lru_cache(maxsize=1 << 16)
def avro_long(value: int) -> bytes:
    """Zigzag and variable length: Avro's int and long."""
    value = value << 1 ^ value >> 63
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def avro_text(text: str) -> bytes:
    """Avro's string."""
    data = text.encode()
    return avro_long(len(data)) + data


def _optional(value: int | None) -> bytes:
    return b"\x00" if value is None else b"\x02" + avro_long(value)


def route_tail(attributes: Attributes | None, next_hop: bytes) -> bytes:
    """The fields of a Route between path_id and at_ms; without attributes, of a withdrawal."""
    if attributes is None:
        action, path, hops, med, local_pref = 1, "", 0, None, None
        communities: tuple[int, ...] = ()
    else:
        action, path, hops = 0, attributes.as_path or "", attributes.as_path_len
        med, local_pref = attributes.med, attributes.local_pref
        communities = attributes.communities
    block = avro_long(len(communities)) + b"".join(map(avro_long, communities))
    return b"".join(
        (
            avro_long(action),
            avro_text(path),
            avro_long(hops),
            _optional(med),
            _optional(local_pref),
            block + b"\x00" if communities else b"\x00",
            next_hop,
        )
    )
