"""The part of a Route record between its prefix and its time, joined by hand (feeds/routes.py)."""

from pipeline.feeds.bgp import Attributes
from pipeline.wire import primitives


def route_tail(attributes: Attributes | None, next_hop: bytes) -> bytes:
    """The fields of a Route between path_id and at_ms; without attributes, of a withdrawal."""
    if attributes is None:
        action, path, hops, med, local_pref = 1, "", 0, None, None
        communities: tuple[int, ...] = ()
    else:
        action, path, hops = 0, attributes.as_path or "", attributes.as_path_len
        med, local_pref = attributes.med, attributes.local_pref
        communities = attributes.communities
    return b"".join(
        (
            primitives.long(action),
            primitives.text(path),
            primitives.long(hops),
            primitives.optional_long(med),
            primitives.optional_long(local_pref),
            primitives.array([primitives.long(each) for each in communities]),
            next_hop,
        )
    )
