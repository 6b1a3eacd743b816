"""Message keys as the registry describes them: the entity, so that compaction keeps its last.

One function a key, used by every publisher: feeds, SDK and simulation.
"""


def inventory_key(kind: str, entity: str) -> bytes:
    """fleet.inventory: `kind:id`, kind being region, site, cluster, appliance, network (there the
    id is the prefix as text) or drain (there it is `site:id` or `region:id`)."""
    return f"{kind}:{entity}".encode()


def route_key(site: str, peer: str, prefix: str, path_id: int = 0) -> bytes:
    """bgp.routes, a Route: `site|peer|prefix|path_id`, the prefix as text."""
    return f"{site}|{peer}|{prefix}|{path_id}".encode()


def session_key(site: str, peer: str) -> bytes:
    """bgp.routes, PeerUp and PeerDown: `site|peer|session`."""
    return f"{site}|{peer}|session".encode()


def end_of_rib_key(site: str, peer: str) -> bytes:
    """bgp.routes, EndOfRib: `site|peer|eor`."""
    return f"{site}|{peer}|eor".encode()


def path_key(site: str, client: str) -> bytes:
    """traffic.paths: `site|client`, the client's prefix as text."""
    return f"{site}|{client}".encode()


def entity_key(entity: str) -> bytes:
    """appliance.health and traffic.links: the appliance or link itself."""
    return entity.encode()


def play_key(session: int) -> bytes:
    """play.events: the session in decimal."""
    return b"%d" % session
