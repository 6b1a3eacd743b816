"""An explanation: the answer, what it rests on, what moved the client."""

from dataclasses import dataclass

from pipeline.cut import Cut
from pipeline.follow.lookup import Answer
from pipeline.replay.moves import Move
from pipeline.replay.provenance import Origin
from pipeline.replay.sitefacts import BlockDemand, SiteFacts
from pipeline.replay.trail import Drawn, Told


@dataclass(frozen=True, slots=True)
class Published:
    """A table record: the cut that published it last, the offsets that its records of the topic lie
    between by the Epochs (-1: none says), and the Epoch. Cut 0: before the recording begins, and
    `epoch` is the snapshot."""

    topic: str
    key: bytes
    cut: int
    first_offset: int
    end_offset: int
    epoch: Origin


@dataclass(frozen=True, slots=True)
class Cover:
    """A published prefix around the address."""

    prefix: bytes
    region: str
    group: bytes
    published: Published


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the plane made of a site or appliance of the answer, and the report behind it."""

    told: Told
    report: Origin


@dataclass(frozen=True, slots=True)
class Explanation:
    """`cut`, `cut_record`, `config_record`, `epoch`: the cut that answered; `agrees`: whether its
    Epoch has the hash that the fold came to, None without one; `held`: why the table of the region
    is held back, where it is. `covers`: longest first. `sites`: by name, those of the answer.
    Demand by class: `planned_bps`, that the group was planned for; `block`, of the client's own
    block; `drawn`: the plays of it that were recorded. `moves`: oldest first, none where the answer
    was the same from `known_since_ms` on."""

    asked_ms: int
    answer: Answer
    cut: Cut
    cut_record: Origin
    config_record: Origin
    epoch: Origin
    agrees: bool | None
    held: str | None
    covers: tuple[Cover, ...]
    region_record: Origin
    networks: tuple[tuple[bytes, Origin], ...]
    group: Published
    weights: dict[str, Published]
    sites: dict[str, SiteFacts]
    planned_bps: tuple[int, ...]
    block: BlockDemand
    drawn: Drawn
    known_since_ms: int
    moves: tuple[Move, ...]
    verdicts: tuple[Verdict, ...]
