"""The routes of a cell as bytes and back.

Stored: the names; sessions; the keys of prefixes, sources, attributes and rows, each in the order
of their ids; the attribute of each row, dead ones included, because when and how all is numbered
anew depends on them; penalties of what flaps; the journal of changed prefixes, from which tables
that have not looked yet will take what is new. Made again: the look-ups by key, and the chains of a
prefix's rows, whose order nobody sees (ranking sorts)."""

import numpy as np

from pipeline.state.codec import Packed, pack, unpack, within
from pipeline.state.damping import Damping
from pipeline.state.ids import Ids
from pipeline.state.journal import Journal
from pipeline.state.keyindex import KeyIndex
from pipeline.state.routes import Routes


def routes_to_bytes(routes: Routes) -> Packed:
    """The bytes of the section."""
    sessions = len(routes._sessions)
    return pack(
        "routes",
        {
            "generation": routes.generation,
            "sites": routes.sites.names,
            "peers": routes.peers.names,
            "session_site": routes._session_site[:sessions],
            "session_peer": routes._session_peer[:sessions],
            "hi": routes.prefixes.field(0),
            "lo": routes.prefixes.field(1),
            "length": routes.prefixes.field(2),
            "source": routes._sources.field(0),
            "attribute_key": routes._attributes.field(0),
            "key": routes._keys.field(0),
            "attribute": routes._attribute[: len(routes._keys)],
            **within("damping", routes.damping.fields()),
            **within("journal", routes._journal.fields()),
        },
    )


def routes_from_bytes(data: bytes) -> Routes:
    """The inverse of `routes_to_bytes`."""
    routes, fields = Routes(), unpack("routes", data)
    routes.generation = fields["generation"]
    routes.sites, routes.peers = Ids.of(fields["sites"]), Ids.of(fields["peers"])
    routes._session_site, routes._session_peer = fields["session_site"], fields["session_peer"]
    pairs = zip(routes._session_site.tolist(), routes._session_peer.tolist(), strict=True)
    routes._sessions = {
        (routes.sites.names[site], routes.peers.names[peer]): number
        for number, (site, peer) in enumerate(pairs)
    }
    routes.prefixes = KeyIndex.of(fields["hi"], fields["lo"], fields["length"])
    routes._sources = KeyIndex.of(fields["source"])
    routes._attributes = KeyIndex.of(fields["attribute_key"])
    routes._keys = KeyIndex.of(fields["key"])
    routes._link()
    routes._attribute = fields["attribute"]
    routes.announced = int(np.count_nonzero(routes._attribute >= 0))
    routes.damping = Damping.of(fields.part("damping"))
    routes._journal = Journal.of(fields.part("journal"))
    return routes
