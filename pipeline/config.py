"""What a decision depends on beside the rows: one immutable, hashable value.

A cut names its configuration by hash and the fold uses that one, never the one the process was
started with (docs/adr/0012). Every constant has its source beside it.
"""

from functools import lru_cache
from typing import Literal

import orjson
import xxhash
from pydantic import BaseModel, ConfigDict, Field

#: Changes only when what `step` computes may change; an upgrade is then an event in the log.
CODE_VERSION = 5


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProximityConfig(_Frozen):
    missing_med: Literal["best", "worst"] = Field(
        "best",
        description="A route without MED: best (0, as Cisco) or worst (FRR's missing-as-worst).",
    )
    allow_documentation_prefixes: bool = Field(
        False, description="Accept 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32."
    )
    as_path_hops_max: int = Field(255, ge=1, le=1000, description="Longer paths are refused.")
    sites_max: int = Field(16, ge=1, le=255, description="Ranked sites published per group.")


class HealthConfig(_Frozen):
    stale_after_ms: int = Field(15_000, ge=1000, description="Three missed reports at 5 s.")
    site_stale_after_ms: int = Field(
        7_000,
        ge=1000,
        description="Silence of a whole site: one report at 5 s, and up to 2 s on its way.",
    )
    slow_start_ms: int = Field(30_000, ge=0, description="Ramp of a recovered appliance.")
    filling_share: float = Field(
        0.5, ge=0, le=1, description="Usable while FILLING: the fill takes disk and link as well."
    )
    saturated_enter: float = Field(0.95, gt=0, le=2, description="Edge Fabric: about 95 %.")
    saturated_leave: float = Field(0.85, gt=0, le=2)
    saturated_leave_after_ms: int = Field(10_000, ge=0)
    error_rate_max: float = Field(0.5, gt=0, le=1, description="Of at least requests_min requests.")
    error_reports: int = Field(3, ge=1, description="Consecutive bad reports before DOWN.")
    recover_reports: int = Field(2, ge=1, description="Consecutive good reports before PROBATION.")
    requests_min: int = Field(100, ge=1, description="Envoy's outlier detection: 100 requests.")
    outlier_sigmas: float = Field(1.9, gt=0, description="Envoy: mean - 1.9 sigma.")
    outlier_hosts_min: int = Field(5, ge=2, description="Envoy: at least 5 hosts.")
    outlier_share_max: float = Field(0.10, ge=0, le=1, description="Envoy: at most 10 % ejected.")
    plays_min: int = Field(50, ge=1, description="Plays of an appliance in half a minute.")
    stall_margin: float = Field(
        0.2, gt=0, le=1, description="More of its plays missed than at its peers: ejected."
    )
    ejection_ms: int = Field(30_000, ge=0, description="Envoy: 30 s x times ejected.")
    ejection_max_ms: int = Field(300_000, ge=0, description="Envoy: 300 s.")
    panic_below: float = Field(0.5, ge=0, le=1, description="Envoy's panic threshold: 50 %.")
    penalty_half_life_ms: int = Field(900_000, ge=1000, description="FRR: 15 min.")
    penalty_per_failure: int = Field(1000, ge=0, description="FRR: 1000.")
    penalty_suppress: int = Field(6000, ge=0, description="RFC 7196 advises at least 6000.")
    penalty_reuse: int = Field(750, ge=0, description="FRR: 750.")


class DampingConfig(_Frozen):
    withdrawal_penalty: int = Field(
        1000, ge=0, description="FRR: 1000, of a route; here of a session that goes down too."
    )
    change_penalty: int = Field(500, ge=0, description="FRR: 500, for other attributes.")
    reuse: int = Field(750, ge=1, description="FRR: 750; below it routes rank as they are again.")
    route_suppress: int = Field(6000, ge=1, description="RFC 7196 advises at least 6000.")
    route_half_life_ms: int = Field(900_000, ge=1000, description="FRR: 15 min.")
    session_suppress: int = Field(
        1500, ge=1, description="The second fall within a half-life; measured: ADR 35."
    )
    session_half_life_ms: int = Field(180_000, ge=1000, description="Measured: ADR 35.")
    session_penalty_max: int = Field(
        3000, ge=1, description="Of which reuse is left after two half-lives; measured: ADR 35."
    )


class InputConfig(_Frozen):
    future_max_ms: int = Field(300_000, ge=0, description="Clock skew ahead beyond this: refused.")
    age_max_ms: int = Field(900_000, ge=0, description="Telemetry older than this: refused.")
    demand_window_ms: int = Field(60_000, ge=1000)
    demand_bucket_ms: int = Field(
        5_000, ge=100, description="Once in each, shares are planned and tables follow routes."
    )


class AssignmentConfig(_Frozen):
    target: float = Field(0.95, gt=0, le=1, description="Of projected load; Edge Fabric: 95 %.")
    min_shift: int = Field(
        100, ge=0, le=10_000, description="Taiji: shifts under 1 % are not worth it."
    )
    step: int = Field(
        8_000, ge=1_000, le=10_000, description="Of a planned shift, made at once; Taiji: 80 %."
    )


class PublishConfig(_Frozen):
    moved_share_max: float = Field(
        0.5, gt=0, le=1, description="A table that moves more without a cause is held back."
    )
    dead_letters_max: int = Field(
        1000, ge=1, description="Per cut, topic and Reason; then aggregated."
    )


class SteeringConfig(_Frozen):
    """Everything a fold depends on beside its rows."""

    proximity: ProximityConfig = ProximityConfig()
    health: HealthConfig = HealthConfig()
    damping: DampingConfig = DampingConfig()
    inputs: InputConfig = InputConfig()
    assignment: AssignmentConfig = AssignmentConfig()
    publish: PublishConfig = PublishConfig()

    def canonical(self) -> str:
        """Sorted, compact JSON: equal configurations have equal text."""
        return orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS).decode()

    def hash(self) -> str:
        """16 hex digits of xxh3_64 over the canonical text."""
        return _hash_of(self)


@lru_cache(maxsize=64)
def _hash_of(config: SteeringConfig) -> str:
    """Asked for at each cut, several times."""
    return xxhash.xxh3_64_hexdigest(config.canonical().encode())
