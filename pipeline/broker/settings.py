"""Where the broker is and how to speak to it: flag, then environment, then file, then the demo.

One value, `BrokerSettings`, is all that any client of ours is given; `client_kwargs()` turns it
into what aiokafka's consumers, producers and admin client take. Each setting can be given three
ways, and the first one wins:

    flag            --broker HOST:PORT, --tls-ca FILE, --sasl-user NAME ...
    environment     EDGESTEER_BROKER, EDGESTEER_TLS_CA, EDGESTEER_SASL_USER ...
    file            the table [broker] of $EDGESTEER_CONFIG, else of ./edgesteer.toml

Secrets are pydantic `SecretStr`: they never appear in a log line, a repr or an error. A password
given as a flag shows in the process list; prefer the environment or a file only you can read.

Rejected: one URL with everything in it (`kafka+ssl://user:password@host`), since a URL ends up in
logs, shells and process lists with the password in it.
"""

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from aiokafka.helpers import create_ssl_context
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline.broker.configfile import ConfigFile, in_words, read_config_file
from pipeline.broker.running import demo_broker
from pipeline.errors import BrokerUnknown, ConfigError

ENV_PREFIX = "EDGESTEER_"
SECTION = "broker"
#: What one command reads is no property of the broker: it is given by that command or not at all.
_OF_A_COMMAND = {"topics"}


class BrokerSettings(BaseSettings):
    """How to reach the broker. Built from flags alone; `load` adds environment and file."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="forbid", validate_by_name=True
    )

    bootstrap: str = Field(
        validation_alias=ENV_PREFIX + "BROKER", description="HOST:PORT, several with commas."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = Field(
        None, description="Follows from the TLS and SASL settings when it is not given."
    )
    tls_ca: str | None = Field(None, description="PEM file of the authorities to trust.")
    tls_cert: str | None = Field(None, description="PEM file of this client's certificate.")
    tls_key: str | None = Field(None, description="PEM file of its key, when not in tls_cert.")
    tls_key_password: SecretStr | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SCRAM-SHA-512 when a user is given and no mechanism."
    )
    sasl_user: str | None = None
    sasl_password: SecretStr | None = None
    topics: str = Field("", description="What stands before the name of every topic that is read.")
    partitions: int = Field(
        8, ge=1, le=10_000, description="Of every co-partitioned topic, when it is created."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in: `load` reads environment and file itself, to name the culprit."""
        return (init_settings,)

    @field_validator("bootstrap")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",") if server.strip()]
        for server in servers:
            host, colon, port = server.rpartition(":")
            if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f"expected HOST:PORT, got {server!r}")
        if not servers:
            raise ValueError("expected HOST:PORT, got nothing")
        return ",".join(servers)

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if (self.sasl_user is None) != (self.sasl_password is None):
            raise ValueError("sasl_user and sasl_password go together")
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key needs tls_cert")
        protocol = self.security_protocol
        if protocol is not None and protocol.startswith("SASL") and self.sasl_user is None:
            raise ValueError(f"{protocol} needs sasl_user and sasl_password")
        if protocol in ("PLAINTEXT", "SASL_PLAINTEXT") and self._tls:
            raise ValueError(f"{protocol} uses no TLS, but TLS files are given")
        if protocol in ("PLAINTEXT", "SSL") and self.sasl_user is not None:
            raise ValueError(f"{protocol} uses no SASL, but a user is given")
        return self

    @property
    def _tls(self) -> bool:
        return self.tls_ca is not None or self.tls_cert is not None

    @property
    def protocol(self) -> str:
        """The security protocol, given or concluded."""
        if self.security_protocol is not None:
            return self.security_protocol
        wire = "SSL" if self._tls else "PLAINTEXT"
        return wire if self.sasl_user is None else f"SASL_{wire}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS side, or None without TLS. Raises ConfigError when a file cannot be read."""
        if not self.protocol.endswith("SSL"):
            return None
        secret = self.tls_key_password
        try:
            context: ssl.SSLContext = create_ssl_context(
                cafile=self.tls_ca,
                certfile=self.tls_cert,
                keyfile=self.tls_key,
                password=None if secret is None else secret.get_secret_value(),
            )
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (self.tls_ca, self.tls_cert, self.tls_key)))
            raise ConfigError(f"TLS files cannot be used ({files}): {error}") from error
        return context

    def client_kwargs(self) -> dict[str, Any]:
        """Keyword arguments for AIOKafkaConsumer, AIOKafkaProducer and AIOKafkaAdminClient."""
        kwargs: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "security_protocol": self.protocol,
            "ssl_context": self.ssl_context(),
        }
        if self.sasl_user is not None and self.sasl_password is not None:
            kwargs |= {
                "sasl_mechanism": self.sasl_mechanism or "SCRAM-SHA-512",
                "sasl_plain_username": self.sasl_user,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        return kwargs

    @classmethod
    def load(cls, **flags: object) -> Self:
        """Flags (None: not given), then environment, then file. Raises BrokerUnknown when none of
        them names a broker, ConfigError when one of them is wrong."""
        file = read_config_file()
        fields = [name for name in cls.model_fields if name not in _OF_A_COMMAND]
        unknown = sorted(set(file.section(SECTION)) - set(fields))
        if unknown:
            raise file.error(
                SECTION,
                unknown[0],
                f"no setting {unknown[0]!r}; there are {', '.join(fields)}",
            )
        env = _environment(fields)
        given = {name: value for name, value in flags.items() if value is not None}
        values = {**file.section(SECTION), **env, **given}
        if "bootstrap" not in values:
            raise BrokerUnknown(f"no broker named: not --broker, not EDGESTEER_BROKER, not {file}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _blame(error, given, env, file) from None


def _env_name(field: str) -> str:
    return ENV_PREFIX + ("BROKER" if field == "bootstrap" else field.upper())


def _environment(fields: Iterable[str]) -> dict[str, str]:
    names = {field: _env_name(field) for field in fields}
    return {field: os.environ[name] for field, name in names.items() if os.environ.get(name)}


def _blame(
    error: ValidationError, flags: Mapping[str, object], env: Mapping[str, object], file: ConfigFile
) -> ConfigError:
    """Name the first mistake and where it was given; never repeat a value that may be secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = in_words(first)
    if first["loc"]:
        field = str(first["loc"][0])
        field = "bootstrap" if field == ENV_PREFIX + "BROKER" else field
        message = f"{field}: {message}"
    else:  # several settings that do not go together: blame the first one that was given
        given = (*flags, *env, *file.section(SECTION))
        field = next((word for word in re.findall(r"\w+", message) if word in given), "")
        field = field or ("security_protocol" if "security_protocol" in given else "")
    if field in flags:
        flag = "--broker" if field == "bootstrap" else "--" + field.replace("_", "-")
        return ConfigError(f"{flag}: {message}")
    if field in env:
        return ConfigError(f"{_env_name(field)}: {message}")
    return file.error(SECTION, field, message)


def find_broker(flag: str | None = None, **flags: object) -> BrokerSettings:
    """The broker that a command means: --broker, EDGESTEER_BROKER, the configuration file, else the
    running demo of this checkout. Raises BrokerUnknown, saying where it looked."""
    try:
        return BrokerSettings.load(bootstrap=flag, **flags)
    except BrokerUnknown:
        demo, looked = demo_broker()
        if demo is not None:
            given = {name: value for name, value in flags.items() if value is not None}
            return BrokerSettings.model_validate({"bootstrap": demo.bootstrap, **given})
        raise BrokerUnknown(
            "no broker to talk to. Looked for: --broker HOST:PORT (not given); "
            f"EDGESTEER_BROKER (not set); bootstrap under [{SECTION}] in {read_config_file()}; "
            f"a running demo ({looked}). Name one, or start `make demo` in another terminal."
        ) from None
