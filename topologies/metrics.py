"""Every metric of a worker: names in one place, each with what it tells.

Labels are bounded: partitions, topics, Reasons, states, regions and classes; never an appliance,
prefix or client.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

ROWS = Counter(
    "edgesteer_rows", "Input rows taken by cuts.", ["partition", "topic"], registry=REGISTRY
)
REFUSED = Counter(
    "edgesteer_refused", "Rows that became dead letters.", ["topic", "reason"], registry=REGISTRY
)
NOTED = Counter("edgesteer_noted", "Rows counted by name.", ["name"], registry=REGISTRY)
VERDICTS = Counter("edgesteer_verdicts", "Changes of mind.", ["kind", "reason"], registry=REGISTRY)
PUBLISHED = Counter(
    "edgesteer_published", "Records published and acknowledged.", ["topic"], registry=REGISTRY
)
CUTS = Counter("edgesteer_cuts", "Cuts folded.", ["partition", "cause"], registry=REGISTRY)
CUTS_IGNORED = Counter(
    "edgesteer_cuts_ignored", "Cuts in the log that do not count.", ["partition"], registry=REGISTRY
)
STEP_MS = Histogram(
    "edgesteer_step_ms", "Computing one cut.", ["cause"], buckets=_MS, registry=REGISTRY
)
PUBLISH_MS = Histogram(
    "edgesteer_publish_ms",
    "From effects to the acknowledged Epoch.",
    ["cause"],
    buckets=_MS,
    registry=REGISTRY,
)
BEHIND_MS = Gauge(
    "edgesteer_behind_ms", "Age of the last cut when its Epoch was sent.", ["partition"],
    registry=REGISTRY,
)  # fmt: skip
CUT_NUMBER = Gauge(
    "edgesteer_cut_number", "Number of the last cut folded.", ["partition"], registry=REGISTRY
)
INBOX_BYTES = Gauge(
    "edgesteer_inbox_bytes", "Raw rows waiting for a cut.", ["partition"], registry=REGISTRY
)
LAG = Gauge(
    "edgesteer_lag_records",
    "Records at the broker that were not fetched.",
    ["partition", "topic"],
    registry=REGISTRY,
)
PAUSED = Gauge(
    "edgesteer_paused_topics",
    "Topics not fetched because enough waits.",
    ["partition"],
    registry=REGISTRY,
)
APPLIANCES = Gauge(
    "edgesteer_appliances", "Appliances by state.", ["partition", "state"], registry=REGISTRY
)
DEMAND = Gauge(
    "edgesteer_demand_bps",
    "What plays want, over the last minute.",
    ["region", "class"],
    registry=REGISTRY,
)
FORECAST = Gauge(
    "edgesteer_demand_forecast_bps",
    "The same as it is expected in a minute.",
    ["region", "class"],
    registry=REGISTRY,
)
FORECAST_ERROR = Gauge(
    "edgesteer_demand_forecast_error_bps",
    "Root mean square of what came a minute later less what was expected.",
    ["region", "class"],
    registry=REGISTRY,
)
TABLE = Gauge(
    "edgesteer_table_records", "Live records by table topic.", ["partition", "topic"],
    registry=REGISTRY,
)  # fmt: skip
SNAPSHOT_MS = Histogram(
    "edgesteer_snapshot_ms",
    "Taking a snapshot: how long the next cut may have waited for it.",
    ["partition"],
    buckets=_MS,
    registry=REGISTRY,
)
SNAPSHOT_BYTES = Counter(
    "edgesteer_snapshot_bytes", "Bytes of snapshots written.", ["partition"], registry=REGISTRY
)
SNAPSHOT_CUT = Gauge(
    "edgesteer_snapshot_cut", "Cut of the last whole snapshot.", ["partition"], registry=REGISTRY
)
OVERWRITTEN = Counter(
    "edgesteer_overwritten",
    "Records of others on our table topics that were put right.",
    ["topic"],
    registry=REGISTRY,
)
PHASE = Gauge(
    "edgesteer_cell_phase",
    "0 catching up, 1 taking over, 2 leading, 3 superseded.",
    ["partition"],
    registry=REGISTRY,
)
