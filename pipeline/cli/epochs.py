"""`edgesteer epochs`: the last closed cut of each cell."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from pipeline.cli.common import JsonOption, asks_broker, emit, iso, note, run_async, table
from schemas.registry import STEERING_EPOCHS

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings
    from pipeline.cli.stream import Shown

_FIRST_LOOK = 16


@asks_broker
def command(broker: "BrokerSettings", json: JsonOption = False) -> None:
    """The last closed cut of each cell: hash, size and how far behind its clock it was published.

    Status 1 when nothing was closed yet.
    """
    epochs = run_async(_last_epochs(broker))
    if not epochs:
        note("no cut was closed yet")
        raise typer.Exit(1)
    rows = []
    for each in epochs:
        epoch = {
            "partition": each["partition"],
            "cut": each["cut"],
            "hash": each["table_hash"],
            "behind_ms": each["behind_ms"],
            "at": iso(each["at_ms"]),
            **{name: each[name] for name in ("term", "prefixes", "groups", "sites")},
            "code_version": each["code_version"],
            "refused": sum(one["refused"] for one in each["inputs"]),
        }
        if json:
            emit(epoch)
        else:
            rows.append(list(epoch.values()))
    if not json:
        header = ["cell", "cut", "hash", "behind ms", "at", "term", "prefixes", "groups", "sites"]
        table([*header, "code", "refused"], rows, right="rr r rrrrrr")


async def _last_epochs(broker: "BrokerSettings") -> list[dict[str, Any]]:
    from pipeline.cli.stream import newest
    from pipeline.follow.reader import TopicReader

    async with TopicReader(broker, [STEERING_EPOCHS.name]) as reader:
        begins, ends = await reader.begins(), await reader.ends()
        filled = {each.partition for each, end in ends.items() if end > begins[each]}

        def enough(found: Sequence["Shown"]) -> bool:
            return {one.partition for one in found if one.record == "Epoch"} >= filled

        found = await newest(reader, enough, _FIRST_LOOK)
    last: dict[int, dict[str, Any]] = {}
    for one in found:
        if one.record == "Epoch" and one.value is not None:
            held = last.get(one.value["partition"])
            if held is None or one.value["cut"] > held["cut"]:
                last[one.value["partition"]] = one.value
    return [last[partition] for partition in sorted(last)]
