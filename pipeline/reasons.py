"""Every Reason there is: why a record was refused, a verdict given, a row counted by name.

L9: every verdict names a Reason, and every Reason here is produced in a test.
"""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a record became a dead letter."""

    NOT_FRAMED = "not_framed"  # neither single-object encoding nor Confluent framing
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    UNEXPECTED_RECORD = "unexpected_record"  # a known record, but not one of this topic
    UNDECODABLE = "undecodable"  # body ends early or does not parse
    TRAILING_BYTES = "trailing_bytes"  # body is followed by something else
    TOO_LARGE = "too_large"
    BAD_KEY = "bad_key"  # a tombstone whose key names nothing
    MISSING_VALUE = "missing_value"  # a tombstone on a topic that has no use for one
    WRONG_PARTITION = "wrong_partition"
    UNKNOWN_APPLIANCE = "unknown_appliance"
    UNKNOWN_SITE = "unknown_site"
    UNKNOWN_LINK = "unknown_link"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"  # negative or absurd
    FROM_THE_FUTURE = "from_the_future"  # clock skew beyond the limit
    TOO_OLD = "too_old"
    HOST_BITS = "host_bits"
    BAD_PREFIX_LENGTH = "bad_prefix_length"
    DEFAULT_ROUTE = "default_route"
    BOGON = "bogon"
    AS_PATH_TOO_LONG = "as_path_too_long"
    BAD_ID = "bad_id"  # empty, over-long or unprintable identifier
    UNMAPPED_PEER = "unmapped_peer"  # a feed's route from a peer that no --peer gives to a site
    BAD_ATTRIBUTES = "bad_attributes"  # path attributes that RFC 7606 treats as a withdrawal


class Noted(StrEnum):
    """Counted by name: folded, without effect or with an effect worth knowing."""

    DUPLICATE = "duplicate"  # the same thing again
    REORDERED = "reordered"  # older than what is known; does not change the past
    LATE = "late"  # within the limit, outside the window
    WITHDRAWN_UNKNOWN = "withdrawn_unknown"  # a route withdrawn that was never announced
    UNPLACED_ROUTE = "unplaced_route"  # learned by a site that the inventory does not name (yet)
    UNPLACED_PLAY = "unplaced_play"  # served by an appliance that the inventory does not name
    PEER_FLUSH = "peer_flush"  # routes removed by PeerUp or PeerDown


class Reason(StrEnum):
    """Why something is as it is: appliance and site states, shares, weights, tables."""

    # appliance states
    REPORTED_OK = "reported_ok"
    REPORTED_FAILED = "reported_failed"
    REPORTED_DRAINING = "reported_draining"
    REPORTED_FILLING = "reported_filling"
    FIRST_REPORT = "first_report"
    NEVER_REPORTED = "never_reported"
    SILENT = "silent"  # no report for stale_after_ms, or of its whole site for site_stale_after_ms
    ERROR_RATE = "error_rate"
    SATURATED = "saturated"
    RELIEVED = "relieved"  # utilisation below the lower threshold for long enough
    SLOW_START = "slow_start"
    PROMOTED = "promoted"
    FLAPPING = "flapping"  # promotion held back by the penalty
    OUTLIER = "outlier"
    PANIC = "panic"  # too few healthy: health is ignored
    # sites and shares
    NO_CAPACITY = "no_capacity"  # no appliance of the site can serve this class now
    CLASS_NOT_SERVED = "class_not_served"
    SITE_FULL = "site_full"  # above target, the rest spilled over
    BEYOND_RANK = "beyond_rank"  # eligible, but nearer sites had room
    SPILL_OVER = "spill_over"
    OVERFLOW = "overflow"  # no site had room: stays where it is nearest
    NEAREST = "nearest"
    # tables
    HELD = "held"  # fail static: the last good table stays
    EMPTY_TABLE = "empty_table"
    MOVED_TOO_MUCH = "moved_too_much"
    RELEASED = "released"
    TOO_MUCH_TO_SOLVE = "too_much_to_solve"  # shares by spill-over, not by the exact solution
    # taken out of service by an operator
    DRAINING = "draining"  # gets less and less of its load, or nothing any more
    DRAINED = "drained"  # the deadline of the drain: nothing is admitted any more
    UNDRAINED = "undrained"  # comes back, evenly as well
    PLAYS_STALL = "plays_stall"  # those it serves stall, those of its peers do not
    DIVIDED = "divided"  # another part of a site that several regions share
    PLAYS_LEAVE = "plays_leave"  # sessions fail over from it, those of its peers do not
    PATH_LOSS = "path_loss"  # another site loses less towards the same network: ranked last
    RETRANSMITS = "retransmits"  # it sends many packets again, its peers do not
    # demand
    FLASH_CROWD = "flash_crowd"  # many more at once, beyond what chance makes
    REPORTS_LOST = "reports_lost"  # plays cease, and the bytes go on: nobody has left
    # routes
    ROUTE_DAMPED = "route_damped"  # it or its session goes and comes too often: ranked last
