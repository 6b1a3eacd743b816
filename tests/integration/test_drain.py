"""A site taken out of service and put back on a running plane, by hand."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.broker.topics import create_topics
from pipeline.decide.duty import Duty
from pipeline.follow.follower import Follower
from tests.brokers import TestBroker
from tests.laws import settled
from tests.plane import Plane, shares

pytestmark = [pytest.mark.broker, pytest.mark.slow]

FLEET = ("--regions", "1", "--sites", "6", "--appliances", "24")
FLEET += ("--prefixes", "600", "--rate", "200")
PATIENCE_S = 120.0


class Asker:
    """Runs commands as a script would."""

    def __init__(self, broker: TestBroker) -> None:
        self._broker = ("--broker", broker.settings.bootstrap)

    async def __call__(self, *args: str, status: int = 0) -> list[dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipeline.cli.main", *args, *self._broker),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == status, err.decode()
        self.said = err.decode()
        return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


async def verdicts_until(ask: Asker, site: str, last: str) -> list[str]:
    """The Reasons of what was told of the site's service, once the `last` one was."""
    states = {duty.name for duty in Duty}
    for _ in range(int(PATIENCE_S)):
        told = await ask("verdicts", "--entity", site, "--json")
        reasons = [one["reason"] for one in told if one["to_state"] in states]
        if reasons and reasons[-1] == last:
            return reasons
        await asyncio.sleep(1)
    raise AssertionError(f"{site}: {reasons}, and not {last}")


async def test_a_site_goes_out_of_service_and_comes_back(
    own_broker: TestBroker, tmp_path: Path
) -> None:
    await create_topics(own_broker.settings, 1)
    ask = Asker(own_broker)
    async with Plane(own_broker, tmp_path, workers=1) as plane:
        fleet = plane.fleet(*FLEET)
        await fleet.start()
        async with Follower(own_broker.settings) as follower:
            await follower.wait_for(lambda table: len(shares(table)) == 6, PATIENCE_S)
            await asyncio.sleep(15)
            before = shares(follower.table)
            site = max(before, key=before.__getitem__)

            *moves, seen = await ask("drain", site, "--dry-run", "--json")
            assert seen["change"] == f"with {site} out of service"
            assert any(one["kind"] == "move" and one["from"] == site for one in moves)
            assert shares(follower.table)[site] > 0

            await ask("drain", site, "--by", "now", status=1)  # nobody is there to be asked
            assert "--yes does it" in ask.said

            (told,) = await ask("drain", site, "--by", "now", "--yes", "--json")
            assert (told["action"], told["entity"], told["published"]) == ("drain", site, True)
            await follower.wait_for(lambda table: not shares(table)[site], PATIENCE_S)
            (told,) = await ask("drain", site, "--yes", "--json")
            assert not told["published"]
            found = await ask("fleet", "show", "--json")
            (drain,) = [one for one in found if one["kind"] == "drain"]
            assert (drain["id"], drain["state"]) == (f"site:{site}", "out of service")
            await verdicts_until(ask, site, "drained")

            *moves, seen = await ask("undrain", site, "--dry-run", "--json")
            assert any(one["kind"] == "move" and one["to"] == site for one in moves)
            await ask("undrain", site, "--by", "5s", "--yes")
            await follower.wait_for(lambda table: shares(table)[site] > 0, PATIENCE_S)
            back = await verdicts_until(ask, site, "released")
            assert back[-2:] == ["undrained", "released"]
        assert await fleet.stop() == 0
        await settled(own_broker, 1)
    (last,) = [one for one in await ask("replay", "--json") if "cuts" in one]
    assert last["different"] == last["inputs_incomplete"] == 0
    assert last["equal"] > 0
