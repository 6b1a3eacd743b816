"""A world small enough to be reckoned by hand, as a log and as a recording.

Region eu, sites near (10 Gbit/s, one appliance) and far (20, behind a link of 15). By client
network: 20.1/16 is announced to both, near being nearer; 20.2/16 to near alone; 20.3/16 to both
alike but for the MED (near 10, far 20). Demand, VOD, from the fifth second on: 6 Gbit/s, 3 Gbit/s
and 240 Mbit/s, all of which near serves: 9.24 of its 9.5. One cut a second.
"""

from pathlib import Path

from pipeline.replay.archive import Recording
from tests.cell_world import GBPS, START_MS, Log
from tests.recorded import write

CUTS, FROM_CUT = 24, 12
NEAR, FAR, PEER = "near", "far", "192.0.2.1"
#: Bytes of a play that make so many bits/s of a window of 60 s.
GBIT = 60 * 10**9 // 8


def log(*, failed: range = range(0), name: str = NEAR) -> Log:
    """`failed`: the cuts at which near reports FAILED; `name`: what near is called."""
    made = Log()
    made.put("fleet.inventory", "region:eu", "Region",
             {"region": "eu", "name": "eu", "lat": 50.0, "lon": 8.0})  # fmt: skip
    links = [{"link": "far-link", "capacity_bps": 15 * GBPS}]
    for site, listed in ((name, []), (FAR, links)):
        made.put("fleet.inventory", f"site:{site}", "Site",
                 {"site": site, "region": "eu", "name": site, "kind": "IX", "lat": 50.0,
                  "lon": 8.0, "links": listed})  # fmt: skip
    for site, gbps in ((name, 10), (FAR, 20)):
        made.put("fleet.inventory", f"appliance:{site}-a0", "Appliance",
                 {"appliance": f"{site}-a0", "site": site, "cluster": "", "region": "eu",
                  "capacity_bps": gbps * GBPS, "serves": ["VOD", "LIVE", "GAME"],
                  "addresses": []})  # fmt: skip
    for site, net, hops, med in (
        (name, "20.1.0.0/16", 1, None), (FAR, "20.1.0.0/16", 2, None),
        (name, "20.2.0.0/16", 1, None),
        (name, "20.3.0.0/16", 1, 10), (FAR, "20.3.0.0/16", 1, 20),
    ):  # fmt: skip
        made.route(site, net, hops=hops, med=med)
    for number in range(1, CUTS + 1):
        made.health(f"{name}-a0", "FAILED" if number in failed else "OK")
        made.health(f"{FAR}-a0")
        if number == 1:
            for client, size in (
                ("20.1.1.9", 6 * GBIT), ("20.2.1.9", 3 * GBIT), ("20.3.1.9", GBIT * 24 // 100),
            ):  # fmt: skip
                # Where they are served is not said: they would go on there whatever is decided.
                made.play(client, "unnamed", "VOD", size)
        made.cut()
    return made


def moment(number: int) -> int:
    """When a cut was made."""
    return START_MS + 1000 * number


def recording(path: Path, made: Log | None = None) -> Path:
    """Of which the first FROM_CUT - 1 cuts are the lead-in."""
    return write(path, made or log(), [], from_cut=FROM_CUT)


def opened(path: Path, made: Log | None = None) -> Recording:
    """The same, ready to be folded."""
    return Recording(recording(path, made))
