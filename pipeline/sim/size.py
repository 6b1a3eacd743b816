"""How large a simulated world is."""

from dataclasses import dataclass

from pipeline.errors import UsageError

#: The whole Internet table, of both families.
PREFIXES_MAX = 1_200_000


@dataclass(frozen=True, slots=True)
class SimSize:
    """`rate`: play events a second over the whole world. `churn_per_s`: BGP changes a second.
    `heard_at`: sites that hear of a prefix, at most; 0: as many as interconnection has it."""

    regions: int = 3
    sites: int = 40
    appliances: int = 400
    prefixes: int = 20_000
    rate: int = 2_000
    churn_per_s: float = 2.0
    heartbeat_ms: int = 10_000  # a session reports this often (CMCD's default is 30 s)
    heard_at: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.regions <= 60:
            raise UsageError(f"{self.regions} regions: a simulated world has 1 to 60")
        if self.sites < 4 * self.regions:
            raise UsageError(f"{self.sites} sites: each of {self.regions} regions needs at least 4")
        if self.appliances < self.sites:
            raise UsageError(f"{self.appliances} appliances: each of {self.sites} sites needs one")
        if not 200 * self.regions <= self.prefixes <= PREFIXES_MAX:
            raise UsageError(
                f"{self.prefixes} prefixes: at least 200 a region, at most {PREFIXES_MAX:,}"
            )
        if self.heard_at < 0:
            raise UsageError(f"a prefix heard at {self.heard_at} sites: at least 1, or 0 for all")
        if self.rate < 10:
            raise UsageError(f"{self.rate} events/s: at least 10")

    @property
    def sessions(self) -> int:
        """Concurrent viewers: each sends one event per heartbeat interval."""
        return self.rate * self.heartbeat_ms // 1000
