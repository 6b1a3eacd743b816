"""TLS and SASL as a person gives them, and a wrong one answered with what is wrong."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.broker.kafka import KafkaCluster
from pipeline.broker.settings import BrokerSettings, find_broker
from pipeline.broker.topics import check_topics, create_topics
from pipeline.errors import BrokerError
from tests.brokers import KAFKA, TestBroker

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
USER, PASSWORD = "steering", "correct-horse"


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that is its own authority: (certificate, key)."""
    certificate, key = folder / "broker.pem", folder / "broker.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def _pem(path: Path) -> str:
    """A PEM file on one line of a properties file."""
    return path.read_text().replace("\n", "\\n")


@pytest.fixture(scope="module")
def secured(
    broker: TestBroker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerSettings]:
    """A broker that talks TLS only, to those who know the password."""
    if broker.kind != KAFKA:
        pytest.skip("starts a broker of its own: EDGESTEER_TEST_BROKER=kafka")
    folder = tmp_path_factory.mktemp("secured")
    certificate, key = _certificate(folder)
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    properties = {
        "listener.security.protocol.map": "PLAINTEXT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.plaintext.plain.sasl.jaas.config": f'{login} username="{USER}" '
        f'password="{PASSWORD}" user_{USER}="{PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": _pem(certificate),
        "ssl.keystore.key": _pem(key),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": _pem(certificate),
    }
    client = {
        "tls_ca": str(certificate),
        "sasl_mechanism": "PLAIN",
        "sasl_user": USER,
        "sasl_password": PASSWORD,
    }
    with KafkaCluster(folder / "data", properties=properties, client=client) as cluster:
        yield cluster.settings


async def test_file_and_environment_together_open_the_door(
    secured: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        f'[broker]\nbootstrap = "{secured.bootstrap}"\ntls_ca = "{secured.tls_ca}"\n'
        f'sasl_mechanism = "PLAIN"\nsasl_user = "{USER}"\n'
    )
    monkeypatch.setenv("EDGESTEER_CONFIG", str(file))
    monkeypatch.setenv("EDGESTEER_SASL_PASSWORD", PASSWORD)
    settings = find_broker()
    assert settings.protocol == "SASL_SSL"
    assert await create_topics(settings, partitions=2)
    assert await check_topics(settings) == []


async def test_a_wrong_password_is_said_and_not_shown(secured: BrokerSettings) -> None:
    wrong = BrokerSettings.model_validate({**secured.model_dump(), "sasl_password": "wrong-horse"})
    with pytest.raises(BrokerError) as caught:
        await check_topics(wrong)
    assert "Invalid username or password" in str(caught.value)
    assert "wrong-horse" not in str(caught.value)


async def test_an_authority_that_is_not_known_is_refused(
    secured: BrokerSettings, tmp_path: Path
) -> None:
    stranger, _ = _certificate(tmp_path)
    other = BrokerSettings.model_validate({**secured.model_dump(), "tls_ca": str(stranger)})
    with pytest.raises(BrokerError, match="is not vouched for by"):
        await check_topics(other)


async def test_plain_speech_on_a_tls_port_is_an_error_in_words(secured: BrokerSettings) -> None:
    with pytest.raises(BrokerError, match="cannot be reached"):
        await check_topics(BrokerSettings(bootstrap=secured.bootstrap))
