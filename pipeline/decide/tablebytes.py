"""The steering table of a region as bytes and back.

Stored: the prefixes in order with their ids; own rankings and groups by id; all rankings and pairs
(their indices decide in which order groups are published after a table was held); and what the
table has last looked at: versions, rules, RTT steps and the placement. The table may be behind the
sections, for an urgent cut folds routes and leaves it alone: so its prefixes are stored as such,
and not by ids that Routes may have given to others since. Made again: parents, look-ups, and how
many prefixes each group has."""

import numpy as np

from pipeline.config import ProximityConfig
from pipeline.decide.groups import NONE, RegionTable
from pipeline.decide.inheritance import Inheritance
from pipeline.decide.placement import Placement, RttIndex
from pipeline.state.codec import Packed, pack, unpack, within
from pipeline.state.lpm import PrefixTree


def table_to_bytes(table: RegionTable, section: str) -> Packed:
    """The bytes of the table as this section."""
    size = int(table._tree.order.max(initial=NONE)) + 1
    place, rules = table._place, table._rules
    return pack(
        section,
        {
            "region": table.region,
            "version": table.version,
            "seen": table._seen,
            "rules": None if rules is None else rules.model_dump(mode="json"),
            **within("tree", table._tree.fields()),
            "own": table._own[:size],
            "group": table._group[:size],
            **within("made", table._made.fields()),
            **within("rtt", table._rtt.fields()),
            "placed": place is not None,
            **within("place", {} if place is None else place.fields()),
        },
    )


def table_from_bytes(section: str, data: bytes) -> RegionTable:
    """The inverse of `table_to_bytes`."""
    fields = unpack(section, data)
    table = RegionTable(fields["region"])
    table.version, table._seen = fields["version"], tuple(fields["seen"])
    table._rules = None if fields["rules"] is None else ProximityConfig(**fields["rules"])
    table._tree = PrefixTree.of(fields.part("tree"))
    table._own, table._group = fields["own"], fields["group"]
    table._made = Inheritance.of(fields.part("made"))
    served = table._group[table._group != NONE]
    table._references = np.bincount(served, minlength=len(table._made.groups))
    table._rtt = RttIndex.of(fields.part("rtt"))
    if fields["placed"]:
        table._place = Placement.restored(fields.part("place"), table._rtt)
    return table
