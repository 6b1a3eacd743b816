"""`edgesteer topics`: create the plane's topics, check that they are as they must be, and delete
those that a replay made."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import JsonOption, emit, note, run_async, say, takes_broker

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings

app = typer.Typer(
    no_args_is_help=True, help="Create the plane's topics, check them, delete a replay's."
)

PartitionsOption = Annotated[
    int | None,
    typer.Option(
        "--partitions",
        min=1,
        max=10_000,
        help="Of every co-partitioned topic; the number of cells. Unset: as it is, or 8.",
    ),
]


@app.command()
@takes_broker
def create(
    broker: "BrokerSettings",
    partitions: PartitionsOption = None,
    replication: Annotated[
        int, typer.Option(min=1, max=100, help="Copies of each partition; 3 in production.")
    ] = 1,
    json: JsonOption = False,
) -> None:
    """Create the topics that are missing. What exists is never changed."""
    from pipeline.broker.topics import create_topics

    created = run_async(create_topics(broker, partitions or 0, replication))
    for name in created:
        if json:
            emit({"topic": name, "created": True})
        else:
            say(f"created {name}")
    if not created:
        note("every topic is there already")
    _check(broker, partitions or 0, json)


@app.command()
@takes_broker
def check(
    broker: "BrokerSettings", partitions: PartitionsOption = None, json: JsonOption = False
) -> None:
    """Say what is not as it must be, and what mends it: status 1 then, 0 when all is well."""
    _check(broker, partitions or 0, json)
    if not json:
        say("all topics are as they must be")


@app.command()
@takes_broker
def delete(
    broker: "BrokerSettings",
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="PREFIX.", help="The one given to `replay --into`.")
    ],
    json: JsonOption = False,
) -> None:
    """Delete the topics that `replay --into PREFIX.` made; never a live one."""
    from pipeline.broker.isolated import delete_isolated

    deleted = run_async(delete_isolated(broker, prefix))
    for name in deleted:
        if json:
            emit({"topic": name, "deleted": True})
        else:
            say(f"deleted {name}")
    if not deleted:
        note(f"there is no topic of ours under {prefix}")


def _check(broker: "BrokerSettings", partitions: int, json: bool) -> None:
    from pipeline.broker.topics import check_topics

    mismatches = run_async(check_topics(broker, partitions))
    for mismatch in mismatches:
        if json:
            emit(asdict(mismatch))
        else:
            say(str(mismatch))
    if mismatches:
        raise typer.Exit(1)
