"""The steering configuration of a worker: the table [steering] of the configuration file."""

from pathlib import Path

from pydantic import ValidationError

from pipeline.broker.configfile import in_words, read_config_file
from pipeline.config import SteeringConfig


def load_steering_config(path: Path | None = None) -> SteeringConfig:
    """What `path` says (unset: $EDGESTEER_CONFIG, else ./edgesteer.toml), defaults for the rest.

    Raises ConfigError with the line of the first mistake."""
    file = read_config_file(path)
    try:
        return SteeringConfig.model_validate(file.section("steering"))
    except ValidationError as error:
        first = error.errors()[0]
        *tables, key = ("steering", *map(str, first["loc"]))
        raise file.error(".".join(tables), key, f"{key}: {in_words(first)}") from None
