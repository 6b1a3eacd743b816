"""Logging of a worker: structlog over the standard library, one line an event, on stderr.

Some lines of Faust, aiokafka and the embedded broker frighten although all is well (seen in
tests and demos): their texts are dropped, not their levels, so that the rest of those loggers stays
audible.
"""

import logging
import re
import sys

import structlog

_HARMLESS = re.compile(
    r"Heartbeat failed .* because it is rebalancing"
    r"|Got error produce response .* NotLeaderForPartitionError, retrying"
    r"|woke up too (late|early)"
    r"|GLIBC"
    r"|Timer .* drift"
    r"|Topic .* is not available during auto-create initialization"
)


class HarmlessFilter(logging.Filter):
    """Drops records whose text is known to mean nothing."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _HARMLESS.search(record.getMessage()) is None


def configure_logging(*, json: bool, verbose: bool) -> None:
    """Set up for this process: our lines at INFO, libraries at WARNING (INFO when `verbose`)."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(HarmlessFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("edgesteer").setLevel(logging.INFO)
