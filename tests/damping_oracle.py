"""What flaps, as the rules read: a dict of penalties, looked at one by one at every cut."""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from pipeline.config import DampingConfig


@dataclass
class OracleDamping:
    """Penalties of sessions (site, peer) and of routes (site, peer, prefix, path id). Told of all
    that happens in a cut, in order; `close` ends it."""

    penalty: dict[Hashable, tuple[int, int]] = field(default_factory=dict)  # as of when
    damped: set[Hashable] = field(default_factory=set)
    up: set[Hashable] = field(default_factory=set)
    added: Counter[Hashable] = field(default_factory=Counter)

    def value(self, what: Hashable, now_ms: int, config: DampingConfig) -> int:
        penalty, at_ms = self.penalty.get(what, (0, now_ms))
        passed, half_life_ms = now_ms - at_ms, config.route_half_life_ms
        if _is_session(what):
            half_life_ms = config.session_half_life_ms
        while passed >= half_life_ms:
            penalty, passed = penalty // 2, passed - half_life_ms
        return penalty * (2 * half_life_ms - passed) // (2 * half_life_ms)

    def announced(self, session: Hashable) -> None:
        self.up.add(session)

    def went_down(self, session: Hashable, config: DampingConfig) -> None:
        if session in self.up:
            self.up.remove(session)
            self.added[session] += config.withdrawal_penalty

    def close(self, now_ms: int, config: DampingConfig) -> None:
        for what in [*self.damped]:
            if self.value(what, now_ms, config) < config.reuse:
                self.damped.remove(what)
        for what, amount in self.added.items():
            before = self.value(what, now_ms, config)
            before = before if before >= config.reuse / 2 else 0
            suppress = config.session_suppress if _is_session(what) else config.route_suppress
            most = config.session_penalty_max if _is_session(what) else 16 * config.reuse
            now = min(before + amount, max(most, suppress))
            self.penalty[what] = (now, now_ms)
            if now >= max(suppress, config.reuse):
                self.damped.add(what)
        self.added.clear()


def _is_session(what: Hashable) -> bool:
    return isinstance(what, tuple) and len(what) == 2
