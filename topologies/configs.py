"""Configurations as input: every one that a cut names stands in `steering.config` before that cut.

A fold asks for the configuration by the hash in the cut. The worker's own may be replaced while it
runs (SIGHUP reads the file again); the next cut then names the new one.
"""

import orjson

from pipeline.config import SteeringConfig
from pipeline.errors import LogError
from pipeline.wire.decode import decode
from schemas.registry import STEERING_CONFIG
from topologies.outputs import Outputs
from topologies.readback import Readback


class Configs:
    """All configurations known to the log, and the one that new cuts are made under."""

    def __init__(self, current: SteeringConfig, outputs: Outputs, readback: Readback) -> None:
        self._current, self.current_hash = current, current.hash()
        self._outputs, self._readback = outputs, readback
        self._known: dict[str, SteeringConfig] = {}

    def replace(self, config: SteeringConfig) -> None:
        """Make the next cut, and those after it, under `config`."""
        self._current, self.current_hash = config, config.hash()

    async def ensure_published(self) -> None:
        """Stand the current configuration in the log unless it is there."""
        config, config_hash = self._current, self.current_hash  # `replace` may come meanwhile
        if config_hash not in self._known:
            await self._outputs.put_config(config_hash, config.canonical())
            self._known[config_hash] = config

    async def get(self, config_hash: str) -> SteeringConfig:
        """The configuration with this hash; LogError when the log names one that nobody
        published."""
        if config_hash not in self._known:
            await self._load()
        try:
            return self._known[config_hash]
        except KeyError:
            raise LogError(
                f"a cut names configuration {config_hash}, but {STEERING_CONFIG.name} has none such"
            ) from None

    async def _load(self) -> None:
        for value in (await self._readback.table(STEERING_CONFIG.name, 0))[0].values():
            _, record = decode(value)
            config = SteeringConfig.model_validate(orjson.loads(record["config"]))
            self._known[config.hash()] = config
