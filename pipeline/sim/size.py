"""How large a simulated world is."""

from dataclasses import dataclass

from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class SimSize:
    """`rate`: play events a second over the whole world. `churn_per_s`: BGP changes a second."""

    regions: int = 3
    sites: int = 40
    appliances: int = 400
    prefixes: int = 20_000
    rate: int = 2_000
    churn_per_s: float = 2.0
    heartbeat_ms: int = 10_000  # a session reports this often (CMCD's default is 30 s)

    def __post_init__(self) -> None:
        if not 1 <= self.regions <= 60:
            raise UsageError(f"{self.regions} regions: a simulated world has 1 to 60")
        if self.sites < 4 * self.regions:
            raise UsageError(f"{self.sites} sites: each of {self.regions} regions needs at least 4")
        if self.appliances < self.sites:
            raise UsageError(f"{self.appliances} appliances: each of {self.sites} sites needs one")
        if not 200 * self.regions <= self.prefixes <= 1_000_000:
            raise UsageError(f"{self.prefixes} prefixes: at least 200 a region, at most 1,000,000")
        if self.rate < 10:
            raise UsageError(f"{self.rate} events/s: at least 10")

    @property
    def sessions(self) -> int:
        """Concurrent viewers: each sends one event per heartbeat interval."""
        return self.rate * self.heartbeat_ms // 1000
