"""What is said of a site, of its appliances, links, route and path, and where it stands written."""

from dataclasses import dataclass

from pipeline.replay.liveroutes import Route
from pipeline.replay.provenance import Origin
from pipeline.replay.trail import Told
from pipeline.state.fleet import CLASSES


@dataclass(frozen=True, slots=True)
class SiteLoad:
    """How much a site could take and was projected to get, in bits per second."""

    usable_bps: int
    target_bps: int
    projected_bps: int


@dataclass(frozen=True, slots=True)
class BlockDemand:
    """What a client block draws by class, in bits per second, what it is expected to in a minute,
    and how far such forecasts are off as a rule; -1: not known."""

    level_bps: tuple[int, ...]
    expected_bps: tuple[int, ...]
    error_bps: tuple[int, ...]

    @classmethod
    def none(cls) -> "BlockDemand":
        """Of a block that drew nothing."""
        nothing = (0,) * len(CLASSES)
        return cls(nothing, nothing, (-1,) * len(CLASSES))


@dataclass(frozen=True, slots=True)
class ApplianceFacts:
    """`since_ms`: in this state; `utilisation` of the port, `load` of the bottleneck, smoothed;
    `change`: the report that brought it there, as its verdict `told` says."""

    appliance: str
    state: str
    reason: str
    since_ms: int
    service: str
    utilisation: float
    load: float
    usable_bps: int
    capacity_bps: int
    inventory: Origin
    report: Origin
    change: Origin
    told: Told | None


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """A link that a site's egress leaves by; used as smoothed."""

    link: str
    used_bps: int
    capacity_bps: int
    sample: Origin


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """The route that stands for a site, and how many others it has to the same prefix; until when
    it is damped, 0: it is not."""

    route: Route
    others: int
    record: Origin
    damped_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What a site measured towards the prefix that it announces: smoothed, and the step of the
    ladder that ranking knows."""

    rtt_us: int
    step_ms: int
    loss: float
    record: Origin


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """`serves`: class -> None, or why not; `admitted`: by operators, ten-thousandths; `drains`:
    what they ordered, as (id, record); `eligible`, `load`, `spread`: the verdicts that brought it
    where it is, None where there never was one; `price` as in steering.sites; by class in the
    order of CLASS_NAMES."""

    site: str
    kind: str
    serves: dict[str, str | None]
    panic: bool
    admitted: int
    drains: tuple[tuple[str, Origin], ...]
    eligible_told: Told | None
    load: str
    load_told: Told | None
    spread_told: Told | None
    target: int
    capacity_bps: int
    usable_bps: int
    target_bps: int
    projected_bps: tuple[int, ...]
    without_room_bps: int
    price: tuple[int, ...]
    measured_bps: int
    inventory: Origin
    links: tuple[LinkFacts, ...]
    appliances: tuple[ApplianceFacts, ...]
    route: RouteFacts | None
    path: PathFacts | None
