"""What publishers may say, one model a record: text and numbers in, the record and its key out.

Addresses and prefixes are text ("203.0.113.7", "2001:db8::/32"); times are Unix milliseconds and,
left out, now; rates are bits/s. A report that the plane would refuse for its form (negative
numbers, NaN, host bits, empty or unprintable ids) is refused here, where its author sees it.
"""

import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import UsageError, WireError
from pipeline.feeds import keys
from pipeline.wire.address import format_address, format_prefix, parse_address, parse_prefix
from schemas.registry import (
    APPLIANCE_HEALTH,
    BGP_ROUTES,
    PLAY_EVENTS,
    TRAFFIC_LINKS,
    TRAFFIC_PATHS,
    Topic,
)

ID_BYTES_MAX = 255
HOPS_MAX = 1000


def check_id(text: str) -> str:
    """An identifier: 1 to 255 bytes, printable, without "|", which parts the fields of keys."""
    if not 0 < len(text.encode()) <= ID_BYTES_MAX or not text.isprintable() or "|" in text:
        raise ValueError(f"an id is 1 to {ID_BYTES_MAX} printable bytes without '|'")
    return text


def _address(text: str) -> str:
    return format_address(_parsed(parse_address, text))


def _prefix(text: str) -> str:
    return format_prefix(_parsed(parse_prefix, text))


def _parsed(parse: Any, text: str) -> bytes:
    try:
        found: bytes = parse(text)
    except WireError as error:
        raise ValueError(str(error)) from None
    return found


def _community(value: int | str) -> int:
    """32 bits, or "AS:VALUE"."""
    if isinstance(value, int):
        number = value
    else:
        high, colon, low = value.partition(":")
        if not (colon and high.isdigit() and low.isdigit() and max(int(high), int(low)) < 1 << 16):
            raise ValueError("a community is 32 bits or AS:VALUE")
        number = int(high) << 16 | int(low)
    if not 0 <= number < 1 << 32:
        raise ValueError("a community has 32 bits")
    return number


def now_ms() -> int:
    """The publisher's clock."""
    return time.time_ns() // 1_000_000


Id = Annotated[str, AfterValidator(check_id)]
Address = Annotated[str, AfterValidator(_address)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Key = bytes  # for a report with a field of that name
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Asn = Annotated[int, Field(ge=0, lt=1 << 32)]
TimeMs = Annotated[int, Field(default_factory=now_ms, ge=0, lt=1 << 63)]


class Report(BaseModel):
    """One record before it is encoded. `topic`, `name`: where it goes and its schema."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    topic: ClassVar[Topic]
    name: ClassVar[str]

    @classmethod
    def of(cls, given: "Self | Mapping[str, Any]") -> Self:
        """The report itself, or made of a mapping. UsageError lists every mistake."""
        if isinstance(given, cls):
            return given
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise UsageError(f"{cls.name}: {'; '.join(mistakes(error))}") from None

    def key(self) -> bytes:
        """The message key that the registry names."""
        raise NotImplementedError

    def record(self) -> dict[str, Any]:
        """The fields as the schema has them."""
        return self.model_dump()


def mistakes(error: ValidationError) -> list[str]:
    """`field: what is wrong`, one for each mistake."""
    found = []
    for each in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, each["loc"]))
        what = each["msg"].removeprefix("Value error, ")
        found.append(f"{where}: {what}" if where else what)
    return found


class HealthReport(Report):
    """What an appliance says of itself; `cpu` and `disk` from 0 to 1. `drain_by_ms`: when one that
    is DRAINING wants to have no load any more, 0 at once."""

    topic, name = APPLIANCE_HEALTH, "Health"
    appliance: Id
    at_ms: TimeMs
    service: Literal["OK", "DRAINING", "FILLING", "FAILED"] = "OK"
    egress_bps: Count
    capacity_bps: Count
    cpu: Share = 0.0
    disk: Share = 0.0
    connections: Count = 0
    requests: Count = 0
    errors: Count = 0
    ttfb_ms: Count = 0
    retransmits: Count = 0
    drain_by_ms: Count = 0

    def key(self) -> bytes:
        return keys.entity_key(self.appliance)


class RouteReport(Report):
    """A route announced or withdrawn. `as_path`: AS numbers separated by spaces, sets in braces
    ("3356 1299 {64496,64497}"); `communities`: numbers or "AS:VALUE"."""

    topic, name = BGP_ROUTES, "Route"
    site: Id
    peer: Address
    peer_asn: Asn = 0
    prefix: Prefix
    path_id: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    action: Literal["ANNOUNCE", "WITHDRAW"] = "ANNOUNCE"
    as_path: Annotated[str, Field(pattern=r"^([\d(\[{][\d,(){}\[\] ]*)?$")] = ""
    med: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    local_pref: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    communities: list[Annotated[int | str, AfterValidator(_community)]] = Field(
        default_factory=list
    )
    next_hop: Address = "::"
    at_ms: TimeMs

    @model_validator(mode="after")
    def _withdrawn_bare(self) -> Self:
        if self.action == "WITHDRAW" and self.as_path:
            raise ValueError("as_path: a withdrawn route has none")
        return self

    def key(self) -> bytes:
        return keys.route_key(self.site, self.peer, self.prefix, self.path_id)

    def record(self) -> dict[str, Any]:
        return self.model_dump() | {
            "prefix": parse_prefix(self.prefix),
            "next_hop": parse_address(self.next_hop),
            "as_path_len": hops_of(self.as_path),
        }


def hops_of(path: str) -> int:
    """Length of an AS path as text: a set counts one, what stands in ( ) or [ ] none."""
    hops, closing = 0, ""
    for word in path.split():
        if closing:
            closing = "" if word.endswith(closing) else closing
        elif word[0] in "([":
            bracket = ")" if word[0] == "(" else "]"
            closing = "" if word.endswith(bracket) else bracket
        else:
            hops += 1
            if word[0] == "{" and not word.endswith("}"):
                closing = "}"
    return hops


class _Session(Report):
    topic = BGP_ROUTES
    site: Id
    peer: Address
    at_ms: TimeMs

    def key(self) -> bytes:
        return keys.session_key(self.site, self.peer)


class PeerUpReport(_Session):
    """A BGP session came up: what the peer had announced before is gone."""

    name = "PeerUp"
    peer_asn: Asn = 0


class PeerDownReport(_Session):
    """A BGP session ended: every route of the peer is withdrawn."""

    name = "PeerDown"
    peer_asn: Asn = 0
    cause: str = ""


class EndOfRibReport(_Session):
    """The peer has announced its whole table."""

    name = "EndOfRib"

    def key(self) -> bytes:
        return keys.end_of_rib_key(self.site, self.peer)


class PathReport(Report):
    """What a site measured towards a client network; `loss` from 0 to 1."""

    topic, name = TRAFFIC_PATHS, "PathSample"
    site: Id
    client: Prefix
    at_ms: TimeMs
    rtt_us: Count
    loss: Share = 0.0
    throughput_bps: Count = 0
    samples: Count = 1

    def key(self) -> bytes:
        return keys.path_key(self.site, self.client)

    def record(self) -> dict[str, Any]:
        return self.model_dump() | {"client": parse_prefix(self.client)}


class LinkReport(Report):
    """The use of one link; `drops`: packets since the last sample."""

    topic, name = TRAFFIC_LINKS, "LinkSample"
    link: Id
    at_ms: TimeMs
    used_bps: Count
    capacity_bps: Count
    drops: Count = 0

    def key(self) -> bytes:
        return keys.entity_key(self.link)


class PlayReport(Report):
    """What a player reports of one session; `bytes` received since its last event from `appliance`;
    FAILOVER: it left that one by itself, since it did not answer or failed."""

    topic, name = PLAY_EVENTS, "PlayEvent"
    session: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    at_ms: TimeMs
    event: Literal["START", "HEARTBEAT", "BITRATE", "STALL", "STOP", "FAILOVER"]
    client: Address
    appliance: Id
    file: Count = 0
    traffic_class: Literal["VOD", "LIVE", "GAME"] = "VOD"
    bytes: Count = 0
    bitrate_bps: Count = 0
    startup_ms: Count = 0
    stall_ms: Count = 0

    def key(self) -> Key:
        return keys.play_key(self.session)

    def record(self) -> dict[str, Any]:
        return self.model_dump() | {"client": parse_address(self.client)}
