"""A scenario under a policy, from the first second of the warm-up to the last one that counts."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.sim.loop.crowd import Followed
from pipeline.sim.loop.layout import Layout
from pipeline.sim.loop.meter import Meter, Trace
from pipeline.sim.loop.policies.availability import Availability
from pipeline.sim.loop.policies.detour import Detour
from pipeline.sim.loop.policies.edgesteer import Edgesteer
from pipeline.sim.loop.policies.nearest import Nearest
from pipeline.sim.loop.policies.two_choices import TwoChoices
from pipeline.sim.loop.policy import Policy, all_to, by_capacity
from pipeline.sim.loop.reports import Reporter
from pipeline.sim.loop.scenario import Scenario
from pipeline.sim.loop.world import World

#: Name -> how it is made, in the order of the table; ours first.
POLICIES: dict[str, Callable[[Layout], Policy]] = {
    "edgesteer": Edgesteer,
    "nearest": Nearest,
    "availability": Availability,
    "detour": Detour,
    "two_choices": TwoChoices,
}
#: From the cut to the client: acknowledged and followed within a second, asked for in the next.
FOLLOW_S = 2
START_MS = 1_750_000_000_000


@dataclass(frozen=True, slots=True)
class Run:
    """What came of it."""

    scenario: str
    policy: str
    columns: dict[str, float | None]
    trace: Trace


def run(
    layout: Layout,
    scenario: Scenario,
    policy: str,
    seed: int,
    progress: Callable[[], None] = lambda: None,
) -> Run:
    """Everything begins with all viewers at their nearest site."""
    world, decides = World(layout, scenario, seed), POLICIES[policy](layout)
    reporter = Reporter(world, seed, START_MS)
    meter = Meter(world, world.script.first_fault())
    first = Followed(all_to(layout, world.routing.nearest), by_capacity(layout))
    world.settle(first)
    tables = deque([first] * FOLLOW_S)
    for second in range(-scenario.warm_up_s, scenario.length_s):
        tables.append(decides.decide(reporter.news(second)))
        followed = tables.popleft()
        seen = world.step(second, followed)
        reporter.measure(second, seen)
        meter.take(second, seen, followed)
        progress()
    return Run(scenario.name, policy, meter.columns(), meter.trace)
