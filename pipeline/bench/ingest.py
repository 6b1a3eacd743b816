"""The `ingest` benchmark: play events through one real worker, beside what others reach.

A simulated fleet publishes its inventory, its routes and half a minute of plays to one broker, each
region to a partition of its own; then one worker starts and works all of it off: fetch, decode,
fold, cuts once a second, tables, Epochs. Its figure is read from the Epochs, which say how many
records each cut took and when it was closed:

    rows of all Epochs after the first with plays, up to the last before a partition's last
    ----------------------------------------------------------------------------------------
    the time between the two

so joining the group and the idle rest of the last second are left out, and whatever the worker has
to do is in. The peers read the same topic afterwards, one after another, each in a process and
where need be a virtual environment of its own; they only decode and add up (tests/bench/peers).
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.bench.common import (
    Closed,
    Say,
    bench_folder,
    epochs,
    kafka,
    machine,
    running,
    worker_args,
)
from pipeline.broker.running import checkout
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, UsageError
from pipeline.feeds.publisher import Publisher
from pipeline.sim.size import SimSize
from pipeline.sim.telemetry import Rows
from pipeline.sim.world import World
from schemas.partition import partition_of
from schemas.registry import BGP_ROUTES, FLEET_INVENTORY, PLAY_EVENTS

PARTITIONS = 4
EVENTS = 12_000_000
#: Plays a second of the simulated fleet: the topic holds some tens of seconds of them.
RATE = 400_000
#: How fast they are published, about; a play may be up to a minute old when it is folded.
PUBLISHED_PER_S = 150_000
WORKER_TIMEOUT_S = 150.0
VENV_TIMEOUT_S = 240.0
_TICK_MS = 500


@dataclass(frozen=True, slots=True)
class Peer:
    """`script` under tests/bench/peers reads `events` of the topic; `needs`: what its own virtual
    environment holds beside fastavro, "" where it shares ours."""

    name: str
    script: str
    events: int
    needs: str = ""
    timeout_s: float = 90.0


PEERS = (
    Peer("stock_faust", "stock_faust.py", 100_000),
    Peer("aiokafka", "aiokafka_loop.py", 2_000_000),
    Peer("confluent", "confluent_loop.py", 2_000_000, "confluent-kafka==2.16.1"),
    Peer("quixstreams", "quix_app.py", 1_000_000, "quixstreams==3.28.1"),
    Peer("bytewax", "bytewax_flow.py", 2_000_000, "bytewax[kafka]==0.21.1"),
    Peer("fetch_only", "fetch_only.py", EVENTS),
)
_HAND_WRITTEN = ("aiokafka", "confluent", "bytewax")


async def run(
    say: Say, events: int = EVENTS, peers: Sequence[Peer] = PEERS, rounds: int = 1
) -> dict[str, Any]:
    """Publish, work off, compare; each peer `rounds` times, of which the fastest counts. Raises
    BrokerError when something does not run, UsageError where there are no peers' scripts."""
    scripts = checkout() / "tests" / "bench" / "peers"
    if peers and not scripts.is_dir():
        raise UsageError(f"{scripts} is not there: this benchmark runs from a checkout")
    interpreters = {peer.name: _interpreter(peer, scripts, say) for peer in peers}
    async with kafka(PARTITIONS, say) as (broker, folder):
        produced = await _publish(broker, events, say)
        say("one worker works them off ...")
        found = await _work_off(broker, folder, produced)
        ours = _figures(found, produced)
        say(f"{'edgesteer':<12} {ours['events_per_s']:>12,.0f} events/s")
        reached: dict[str, dict[str, Any]] = {}
        for peer in peers:
            peer = replace(peer, events=min(peer.events, events))
            tries = [
                _run_peer(peer, interpreters[peer.name], scripts, broker) for _ in range(rounds)
            ]
            reached[peer.name] = max(tries, key=lambda one: float(one["events_per_s"]))
            say(f"{peer.name:<12} {reached[peer.name]['events_per_s']:>12,.0f} events/s")
    value = ours["events_per_s"]
    ratios = {
        name: round(value / one["events_per_s"], 2)
        for name, one in reached.items()
        if one["events_per_s"]
    }
    hand_written = [ratios[name] for name in _HAND_WRITTEN if name in ratios]
    return {
        "name": "ingest",
        "value": value,
        "unit": "events/s",
        "ratios": ratios,
        "detail": {
            "machine": machine(),
            "partitions": PARTITIONS,
            "produced": produced,
            "worker": ours,
            "peers": reached,
            "against_fastest_hand_written": min(hand_written, default=None),
        },
    }


# -- the topic -------------------------------------------------------------------------------------


async def _publish(broker: BrokerSettings, events: int, say: Say) -> dict[str, int]:
    """Inventory, routes and then `events` plays of about when they will be worked off, so that
    every one counts for demand; topic -> records."""
    began = time.monotonic()
    world = World(1, SimSize(regions=PARTITIONS, rate=RATE, churn_per_s=0.0), _now_ms())
    _spread(world)
    produced = {FLEET_INVENTORY.name: 0, BGP_ROUTES.name: 0, PLAY_EVENTS.name: 0}
    async with Publisher(broker) as publisher:
        for batch in (*world.inventory(), *world.routes()):
            await _send(publisher, batch)
            produced[batch.topic] += len(batch)
        ahead_ms = events * 1000 // PUBLISHED_PER_S - events * 1000 // RATE
        world.skip_to(_now_ms() + max(0, ahead_ms))
        while produced[PLAY_EVENTS.name] < events:
            plays = [
                batch
                for batch in world.tick(world.now_ms + _TICK_MS)
                if batch.topic == PLAY_EVENTS.name
            ]
            await asyncio.gather(*(_send(publisher, batch) for batch in plays))
            produced[PLAY_EVENTS.name] += sum(map(len, plays))
    seconds = time.monotonic() - began
    say(f"published {produced[PLAY_EVENTS.name]:,} plays in {seconds:.0f} s")
    return produced


def _spread(world: World) -> None:
    """Name the regions so that each has a partition of its own."""
    for wanted, area in enumerate(world.ground.regions):
        names = (f"{area.id}-{number}" for number in range(1000))
        name = next(name for name in names if partition_of(name, PARTITIONS) == wanted)
        world.ground.regions[wanted] = replace(area, id=name)


async def _send(publisher: Publisher, batch: Rows) -> None:
    partition = publisher.partition(batch.topic, batch.region)
    await publisher.send_rows(batch.topic, partition, batch.keys, batch.values)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# -- ours ------------------------------------------------------------------------------------------


async def _work_off(broker: BrokerSettings, folder: Path, produced: dict[str, int]) -> list[Closed]:
    """Every Epoch, until all that was produced is in one."""
    everything = sum(produced.values())

    def all_taken(found: list[Closed]) -> bool:
        return sum(sum(one.rows.values()) for one in found) >= everything

    async with running("worker", worker_args(folder), broker, folder) as worker:
        return await epochs(broker, all_taken, worker, WORKER_TIMEOUT_S)


def _figures(found: Sequence[Closed], produced: dict[str, int]) -> dict[str, Any]:
    """What the Epochs say; see the head of this file."""
    plays = sorted(
        (one for one in found if one.rows.get(PLAY_EVENTS.name)), key=lambda one: one.closed_ms
    )
    lasts = {one.partition: one.cut for one in sorted(plays, key=lambda one: one.cut)}
    busy = [one for one in plays if one.cut != lasts[one.partition]]
    if len(busy) < 2:
        raise BrokerError("too few cuts for a figure: take more events")
    first, last = busy[0], busy[-1]
    rows = sum(_plays(one) for one in plays if first.closed_ms < one.closed_ms <= last.closed_ms)
    seconds = (last.closed_ms - first.closed_ms) / 1000
    whole_s = (plays[-1].closed_ms - found[0].at_ms) / 1000
    return {
        "events_per_s": round(rows / seconds),
        "events": rows,
        "seconds": round(seconds, 3),
        "whole_run_events_per_s": round(produced[PLAY_EVENTS.name] / whole_s),
        "whole_run_seconds": round(whole_s, 3),
        "cuts": len(found),
        "cuts_with_plays": len(plays),
        "refused": sum(one.refused for one in found),
        "late": sum(one.notes.get("late", 0) for one in found),
        "unplaced": sum(one.notes.get("unplaced_play", 0) for one in found),
        "prefixes": sum({one.partition: one.prefixes for one in found}.values()),
    }


def _plays(one: Closed) -> int:
    return one.rows.get(PLAY_EVENTS.name, 0)


# -- the others ------------------------------------------------------------------------------------


def _interpreter(peer: Peer, scripts: Path, say: Say) -> Path:
    """The Python that runs `peer`, its virtual environment made if it is not there."""
    if not peer.needs:
        return Path(sys.executable)
    venv = bench_folder() / "venvs" / peer.name
    python = venv / "bin" / "python"
    if not (venv / ".complete").exists():
        say(f"making a virtual environment for {peer.name} (once) ...")
        requirements = str(scripts / "requirements.txt")
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", str(venv)],
            [*pip, "-r", requirements, peer.needs],
        ):
            done = subprocess.run(  # noqa: S603  (our own command lines)
                command, capture_output=True, text=True, check=False, timeout=VENV_TIMEOUT_S
            )
            if done.returncode:
                raise BrokerError(f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-2000:]}")
        (venv / ".complete").touch()
    return python


def _run_peer(peer: Peer, python: Path, scripts: Path, broker: BrokerSettings) -> dict[str, Any]:
    """One run of one peer: events, seconds, events_per_s. One that does not finish in time is
    ended and has what it said, which is nothing: 0."""
    arguments = [broker.bootstrap, PLAY_EVENTS.name, str(peer.events)]
    process = subprocess.Popen(  # noqa: S603
        [str(python), str(scripts / peer.script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=peer.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err = f"not finished in {peer.timeout_s:.0f} s\n{err}"
    said = next(_objects(out), None)
    if said is None:
        return {"events": 0, "seconds": None, "events_per_s": 0, "error": err[-600:]}
    return {**said, "events_per_s": round(said["events"] / said["seconds"])}


def _objects(out: str) -> Iterator[dict[str, Any]]:
    for line in out.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
