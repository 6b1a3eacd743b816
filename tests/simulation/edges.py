"""The names in topologies/ that a simulation puts something else behind.

Always: aiokafka's clients, the clocks, the log, the metrics. With the toy cell also the cell, and
chunks so small that its snapshots have many. A name is replaced wherever it is.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from pipeline.state import codec
from tests.simulation import toy
from tests.simulation.clients import Consumer, Producer
from tests.simulation.trace import Silence, TraceLog

_MODULES = (
    "cells", "configs", "folding", "inbox", "outputs", "publishing", "readback", "runner",
    "snapshots", "standing", "writing",
)  # fmt: skip

#: The run under way: what stands behind the clocks and the log.
current: Any = SimpleNamespace(loop=None)
LOG = TraceLog()


def _now_s() -> float:
    seconds: float = current.loop.time()
    return seconds


_GC = SimpleNamespace(freeze=lambda: None, unfreeze=lambda: None, collect=lambda: 0)
EDGES: dict[str, Any] = {
    "AIOKafkaProducer": Producer,
    "AIOKafkaConsumer": Consumer,
    "monotonic": _now_s,
    "perf_counter": _now_s,
    "log": LOG,
    "metrics": Silence(),
    "gc": _GC,
}
TOY: dict[str, Any] = {
    "Cell": toy.Cell,
    "step": toy.step,
    "reconcile": toy.reconcile,
    "current": toy.current,
    "decode_chunk": toy.decode_chunk,
    "PIECE_BYTES": 64,
}


def _modules() -> list[Any]:
    return [codec, *(importlib.import_module(f"topologies.{name}") for name in _MODULES)]


@contextmanager
def replaced(names: Mapping[str, Any]) -> Iterator[None]:
    """These names, in every module of topologies that has them."""
    before = []
    for module in _modules():
        for name, value in names.items():
            if name in vars(module):
                before.append((module, name, vars(module)[name]))
                setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
