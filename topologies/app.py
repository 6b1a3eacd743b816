"""The Faust app: one topology, two agents and nothing decided in either.

Faust gives group membership, the assignment of co-partitioned topics (which it keeps together only
where a table is declared), the table `cells` with its changelog, which hold the snapshots, and the
life cycle. The agents hand over what they are given; decisions fall at cuts (runner.py).
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.types import TP

from pipeline.broker.settings import BrokerSettings
from schemas.registry import INPUTS, STEERING_CUTS
from topologies.cells import Cells
from topologies.transport import CellTransport, RawSchema

log = structlog.get_logger("edgesteer.app")

#: Consumer group, and with the table's name what the changelog is called (registry).
APP_ID, CELLS_TABLE = "edgesteer", "cells"

#: Apache Kafka evicts a silent member after this, and a take-over by another worker takes as long.
#: The least that brokers allow unasked (group.min.session.timeout.ms): docs/adr/0038.
SESSION_TIMEOUT_S = 6.0
#: A member hears of an eviction with its next heartbeat.
HEARTBEAT_S = 0.5
FETCH_BYTES = 4 << 20
#: Few large chunks rather than many events: bounds what waits between the consumer and the inbox.
STREAM_BUFFER = 64
#: RocksDB's defaults reserve gigabytes per database; there is one database per table and partition.
STORE_OPTIONS = {"block_cache_size": 8 << 20, "write_buffer_size": 4 << 20}
#: Chunks of a standby held back before they are stored: what is held back is read again when the
#: standby's turn comes.
TABLE_BUFFER = 16


@dataclass(frozen=True, slots=True)
class AppOptions:
    """What the Faust app needs to know. `instance_id`: a static group member id (embedded broker
    only: docs/adr/0018)."""

    broker: BrokerSettings
    datadir: Path
    partitions: int
    instance_id: str | None = None


class CellApp(faust.App):  # type: ignore[misc]  # faust is untyped
    """A Faust app whose transport reads chunks and seeks where the cells stand."""

    def __init__(self, options: AppOptions, cells: Cells) -> None:
        self.cells = cells
        options.datadir.mkdir(parents=True, exist_ok=True)  # Faust makes it without parents
        super().__init__(
            APP_ID,
            broker=[f"kafka://{server}" for server in options.broker.bootstrap.split(",")],
            broker_credentials=_credentials(options.broker),
            broker_session_timeout=SESSION_TIMEOUT_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_request_timeout=30.0,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=FETCH_BYTES,
            consumer_group_instance_id=options.instance_id,
            stream_buffer_maxsize=STREAM_BUFFER,
            stream_wait_empty=False,
            store="rocksdb://",
            datadir=options.datadir,
            topic_partitions=options.partitions,
            topic_disable_leader=True,
            # `edgesteer topics create` makes them all. Faust would ask the controller for each, and
            # not start while that is a broker that has just died (docs/adr/0040).
            topic_allow_declare=False,
            autodiscover=False,
            web_enabled=False,
        )

    def _new_transport(self) -> CellTransport:
        return CellTransport(
            self.conf.broker_consumer,
            self,
            chunked_topics=[topic.name for topic in INPUTS],
            seek_offsets=self.cells.seek_offsets,
            positions=self.cells.positions,
        )


def build_app(options: AppOptions, cells: Cells) -> CellApp:
    """The app with its topology; nothing is started."""
    app = CellApp(options, cells)
    raw: dict[str, Any] = {"schema": RawSchema(), "acks": False}
    inputs = app.topic(*[topic.name for topic in INPUTS], **raw)
    cuts = app.topic(STEERING_CUTS.name, **raw)
    app.Table(
        CELLS_TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=options.partitions,
        options=STORE_OPTIONS,
        recovery_buffer_size=TABLE_BUFFER,
        help="Snapshots (snapshots.py); and what keeps the partitions of one region together.",
    )

    async def rows(stream: Any) -> None:
        async for event in stream.events():
            with fatal(cells.on_failure):
                cells.on_chunk(event.value)

    async def read_cuts(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            with fatal(cells.on_failure):
                cells.on_cut(message.partition, message.offset, event.value)

    async def hold(*args: Any, **kwargs: Any) -> None:
        cells.hold()

    async def keep(app: faust.App, assigned: Collection[TP], **kwargs: Any) -> None:
        log.info("rebalance decided", partitions=len(assigned))
        cells.keep(assigned)  # a worker that is left with nothing is not asked for offsets

    app.agent(inputs, name="rows")(rows)
    app.agent(cuts, name="cuts")(read_cuts)
    app.on_partitions_revoked.connect(hold)
    app.on_partitions_assigned.connect(keep)
    return app


def changelog_left(app: CellApp) -> dict[int, int]:
    """Partition -> records of its changelog that are still to be read."""
    return {tp.partition: left for tp, left in app.tables.recovery.active_remaining().items()}


@contextmanager
def fatal(on_failure: Callable[[BaseException], None]) -> Iterator[None]:
    """A failure in here ends the worker. (Faust alone would acknowledge the event, skip it and
    restart the agent: data lost without a word.)"""
    try:
        yield
    except Exception as failure:
        on_failure(failure)
        raise


def _credentials(broker: BrokerSettings) -> Any:
    context = broker.ssl_context()
    if broker.sasl_user is not None and broker.sasl_password is not None:
        return faust.SASLCredentials(
            username=broker.sasl_user,
            password=broker.sasl_password.get_secret_value(),
            mechanism=broker.sasl_mechanism or "SCRAM-SHA-512",
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context is not None else None
