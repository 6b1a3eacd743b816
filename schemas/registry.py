"""The topic registry: the only place where a topic name is written.

For each topic: which records travel on it, who writes it, how the broker keeps it, and whether a
cut covers it. Everything else (creation, decoding, following, the tail command) is driven by this
table.
"""

from dataclasses import dataclass
from enum import StrEnum

DAY_MS = 86_400_000
#: What a follower may be behind, or take to load a table, and still hold each cut as it was. Of
#: younger records compaction must take none: a tombstone of one cut that the next cut supersedes
#: would be gone before the slow one reads it, and it would hold a mixture of both.
FOLLOWED_MS = 10 * 60_000


class Cleanup(StrEnum):
    DELETE = "delete"
    COMPACT = "compact"
    COMPACT_DELETE = "compact,delete"


class Role(StrEnum):
    INPUT = "input"  # covered by the offsets of every cut, co-partitioned by region
    LOG = "log"  # the cut log itself, co-partitioned with the inputs
    TABLE = "table"  # what followers hold: co-partitioned, part of the table hash
    REPORT = "report"  # what people and tools read: co-partitioned
    STATE = "state"  # snapshots of the cells: co-partitioned with the inputs
    SHARED = "shared"  # one partition, the same for every cell


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic; `retention_ms` -1 keeps for ever; `compaction_lag_ms` is the least age at which
    the broker may compact: far above the time between snapshots for what a fold reads again, far
    above what a follower may be behind for a table (docs/operating.md)."""

    name: str
    role: Role
    records: tuple[str, ...]
    key: str
    writer: str
    cleanup: Cleanup
    retention_ms: int = -1
    compaction_lag_ms: int = 0

    @property
    def keyed(self) -> bool:
        """Whether its records are read with their keys: a tombstone has nothing else."""
        return self.cleanup is not Cleanup.DELETE


def _input(name: str, records: tuple[str, ...], key: str, writer: str, *, compact: bool) -> Topic:
    return Topic(
        name,
        Role.INPUT,
        records,
        key,
        writer,
        Cleanup.COMPACT if compact else Cleanup.DELETE,
        retention_ms=-1 if compact else 7 * DAY_MS,
        compaction_lag_ms=DAY_MS if compact else 0,
    )


def _table(name: str, record: str, key: str) -> Topic:
    return Topic(
        name,
        Role.TABLE,
        (record,),
        key,
        "workers",
        Cleanup.COMPACT,
        compaction_lag_ms=FOLLOWED_MS,
    )


FLEET_INVENTORY = _input(
    "fleet.inventory",
    ("Region", "Site", "Cluster", "Appliance", "Network", "Drain"),
    "kind:id",
    "operators",
    compact=True,
)
BGP_ROUTES = _input(
    "bgp.routes",
    ("Route", "PeerUp", "PeerDown", "EndOfRib"),
    "site|peer|prefix|path_id, or site|peer|session and site|peer|eor",
    "BMP, MRT and RIS feeds",
    compact=True,
)
APPLIANCE_HEALTH = _input(
    "appliance.health", ("Health",), "appliance", "health reporters", compact=False
)
TRAFFIC_LINKS = _input("traffic.links", ("LinkSample",), "link", "link probes", compact=False)
TRAFFIC_PATHS = _input(
    "traffic.paths", ("PathSample",), "site|client", "path probes", compact=False
)
PLAY_EVENTS = _input("play.events", ("PlayEvent",), "session", "players, CMCD", compact=False)

#: Cells write it for each other: each record goes to the partition of the region that it is for,
#: and is an input there like any other.
CAPACITY_PRICES = _input(
    "capacity.prices",
    ("CapacityClaim", "CapacityGrant"),
    "site|from|to",
    "workers",
    compact=True,
)

STEERING_CUTS = Topic(
    "steering.cuts", Role.LOG, ("Cut",), "partition", "workers", Cleanup.DELETE, 7 * DAY_MS
)
STEERING_CONFIG = Topic(
    "steering.config", Role.SHARED, ("Config",), "hash", "workers", Cleanup.COMPACT
)
STEERING_PREFIXES = _table("steering.prefixes", "PrefixEntry", "prefix (17 bytes) then region")
STEERING_GROUPS = _table("steering.groups", "GroupEntry", "group (8 bytes) then region")
LB_WEIGHTS = _table("lb.weights", "SiteWeights", "site")
STEERING_SITES = _table("steering.sites", "SiteLoad", "site")
#: Its key is the cell, so compaction would leave one Epoch of each. Those of a week must stay: what
#: a replay compares with, and what accounts for every input record.
STEERING_EPOCHS = Topic(
    "steering.epochs",
    Role.REPORT,
    ("Epoch",),
    "partition",
    "workers",
    Cleanup.COMPACT_DELETE,
    retention_ms=7 * DAY_MS,
    compaction_lag_ms=7 * DAY_MS,
)
STEERING_VERDICTS = Topic(
    "steering.verdicts", Role.REPORT, ("Verdict",), "entity", "workers", Cleanup.DELETE, 7 * DAY_MS
)
STEERING_DEAD_LETTERS = Topic(
    "steering.dead_letters",
    Role.REPORT,
    ("DeadLetter",),
    "topic",
    "workers",
    Cleanup.DELETE,
    7 * DAY_MS,
)
#: The changelog of the Faust table `cells`; Faust derives its name from the app's and the table's.
#: What was overwritten less than an hour ago is still there, for tools that go back in time.
CELLS_CHANGELOG = Topic(
    "edgesteer-cells-changelog",
    Role.STATE,
    (),
    "term, section, part, chunk and cut; or term and cut of a commit record",
    "workers",
    Cleanup.COMPACT,
    compaction_lag_ms=DAY_MS // 24,
)
SIM_CONTROL = Topic(
    "sim.control", Role.SHARED, ("SimCommand",), "entity", "edgesteer sim", Cleanup.DELETE, DAY_MS
)

#: Input topics in the order in which a cut's rows are folded: what a thing is before what it does.
INPUTS: tuple[Topic, ...] = (
    FLEET_INVENTORY,
    BGP_ROUTES,
    APPLIANCE_HEALTH,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
    PLAY_EVENTS,
    CAPACITY_PRICES,
)
#: Table topics, in the order in which a cut's effects are sent: a thing before what names it.
TABLES: tuple[Topic, ...] = (LB_WEIGHTS, STEERING_GROUPS, STEERING_PREFIXES, STEERING_SITES)
REPORTS: tuple[Topic, ...] = (STEERING_VERDICTS, STEERING_DEAD_LETTERS, STEERING_EPOCHS)
TOPICS: tuple[Topic, ...] = (
    *INPUTS,
    STEERING_CUTS,
    STEERING_CONFIG,
    *TABLES,
    *REPORTS,
    CELLS_CHANGELOG,
    SIM_CONTROL,
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
