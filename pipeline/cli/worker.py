"""`edgesteer worker`: one worker of the plane, until it is told to stop."""

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import run_async, takes_broker

if TYPE_CHECKING:
    from pipeline.broker.settings import BrokerSettings


@takes_broker
def command(
    broker: "BrokerSettings",
    name: Annotated[
        str, typer.Option(help="Who writes the cuts. Unset: host and process id.")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option(help=r"Configuration file with \[steering]; SIGHUP reads it again."),
    ] = None,
    datadir: Annotated[Path, typer.Option(help="Local state; one folder a worker.")] = Path(
        ".edgesteer/worker"
    ),
    metrics_host: Annotated[str, typer.Option(help="Where /metrics listens.")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    static_member: Annotated[
        bool,
        typer.Option(
            help="Join the group under NAME for good (embedded broker; not on Apache Kafka)."
        ),
    ] = False,
    tick_ms: Annotated[int, typer.Option(help="Between two cuts.", min=100, max=60_000)] = 1000,
    snapshot_every: Annotated[
        int, typer.Option(help="Cuts between two snapshots of a cell.", min=1, max=100_000)
    ] = 60,
    stalled_after: Annotated[
        float,
        typer.Option(
            help="Seconds without a move, of a cell or of the group, that end it.", min=5, max=3600
        ),
    ] = 60.0,
    log_json: Annotated[bool, typer.Option(help="Log lines as JSON.")] = False,
    verbose: Annotated[bool, typer.Option(help="What the libraries say as well.")] = False,
) -> None:
    """Run one worker: fold telemetry, cut, publish. Start as many as you like; Kafka shares the
    cells among them. Ends with status 0 on SIGTERM, 1 with a reason when it cannot go on."""
    from pipeline.broker.topics import require_topics
    from pipeline.cli.steering import load_steering_config
    from topologies.app import AppOptions
    from topologies.logs import configure_logging
    from topologies.worker import WorkerOptions, run_worker

    configure_logging(json=log_json, verbose=verbose)
    load_steering_config(config)  # a mistake in it is told before anything starts
    partitions = run_async(require_topics(broker))
    writer = name or f"{socket.gethostname()}-{os.getpid()}"
    options = WorkerOptions(
        app=AppOptions(
            broker=broker,
            datadir=datadir.absolute(),
            partitions=partitions,
            instance_id=writer if static_member else None,
        ),
        name=writer,
        load_config=lambda: load_steering_config(config),
        metrics_host=metrics_host,
        metrics_port=metrics_port,
        tick_ms=tick_ms,
        snapshot_every_cuts=snapshot_every,
        stalled_after_s=stalled_after,
    )
    raise typer.Exit(run_async(run_worker(options)))
