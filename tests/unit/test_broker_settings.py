"""Where the broker is: flag, then environment, then file, then the running demo; mistakes named."""

import os
from pathlib import Path

import pytest

from pipeline.broker import running
from pipeline.broker.running import RunningBroker, announce, demo_broker, withdraw
from pipeline.broker.settings import BrokerSettings, find_broker
from pipeline.errors import BrokerUnknown, ConfigError

DEAD_PID = 2**22 + 1  # above the largest there can be


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, a checkout and an environment that name no broker."""
    for name in list(os.environ):
        if name.startswith("EDGESTEER_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "checkout", lambda: tmp_path)
    return tmp_path


def write(text: str) -> None:
    Path("edgesteer.toml").write_text(text, encoding="utf-8")


def test_flag_beats_environment_beats_file_beats_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(RunningBroker("demo:1", os.getpid(), "embedded"))
    assert find_broker().bootstrap == "demo:1"
    write('[broker]\nbootstrap = "file:1"\n')
    assert find_broker().bootstrap == "file:1"
    monkeypatch.setenv("EDGESTEER_BROKER", "environment:1")
    assert find_broker().bootstrap == "environment:1"
    assert find_broker("flag:1").bootstrap == "flag:1"


def test_each_setting_is_taken_from_the_first_place_that_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write('[broker]\nbootstrap = "file:1"\npartitions = 3\nsasl_user = "f"\nsasl_password = "p"\n')
    monkeypatch.setenv("EDGESTEER_SASL_USER", "e")
    found = find_broker("flag:1", tls_ca=None)
    assert (found.bootstrap, found.sasl_user, found.partitions) == ("flag:1", "e", 3)


def test_which_topics_are_read_is_said_by_a_command_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker or a publisher must not take over what is meant for those who ask."""
    monkeypatch.setenv("EDGESTEER_TOPICS", "replay.")
    assert find_broker("flag:1").topics == ""
    write('[broker]\nbootstrap = "file:1"\ntopics = "replay."\n')
    with pytest.raises(ConfigError, match="no setting 'topics'"):
        find_broker()


def test_without_any_it_says_where_it_looked() -> None:
    with pytest.raises(BrokerUnknown) as caught:
        find_broker()
    for place in ("--broker", "EDGESTEER_BROKER", "edgesteer.toml", "broker.json"):
        assert place in str(caught.value)


def test_a_demo_that_has_ended_is_not_taken(nowhere: Path) -> None:
    announce(RunningBroker("demo:1", DEAD_PID, "embedded"))
    broker, why = demo_broker()
    assert broker is None
    assert "has ended" in why
    with pytest.raises(BrokerUnknown, match="has ended"):
        find_broker()


def test_a_demo_takes_away_its_own_announcement_only() -> None:
    announce(RunningBroker("demo:1", os.getpid(), "embedded"))
    withdraw(os.getpid() + 1)
    assert demo_broker()[0] == RunningBroker("demo:1", os.getpid(), "embedded")
    withdraw(os.getpid())
    withdraw(os.getpid())
    assert demo_broker()[0] is None


def test_a_damaged_announcement_is_said_not_raised() -> None:
    running.demo_folder().mkdir()
    for text in ("", "{", "[]", '{"bootstrap": "x:1"}'):
        running.demo_file().write_text(text)
        broker, why = demo_broker()
        assert broker is None
        assert "cannot be read" in why


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('\n[broker]\nbootstrap = "x"\n', 3, "HOST:PORT"),
        ('[broker]\nbootstrap = "x:1"\n\nsasl_usr = "u"\n', 4, "no setting 'sasl_usr'"),
        ('[broker]\nbootstrap = "x:1"\npartitions = 0\n', 3, "partitions"),
        ('[broker]\nbootstrap = "x:1"\nsasl_user = "u"\n', 3, "go together"),
        ('[broker]\nbootstrap = "x:1"\ntls_key = "k"\n', 3, "tls_key needs tls_cert"),
        ("[broker]\nbootstrap =\n", 2, "Invalid value"),
        ('\n\n[brokr]\nbootstrap = "x:1"\n', 3, "no table 'brokr'"),
        ('broker = "x:1"\n', 1, "write [broker]"),
        ('[steering]\n[broker]\nbootstrap = "x:1"\nsecurity_protocol = "SSH"\n', 4, "'SSL'"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line(text: str, line: int, says: str) -> None:
    write(text)
    with pytest.raises(ConfigError) as caught:
        find_broker()
    assert caught.value.line == line
    assert f"edgesteer.toml:{line}: " in str(caught.value)
    assert says in str(caught.value)


def test_a_named_file_that_is_absent_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESTEER_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        find_broker("x:1")


def test_a_mistake_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESTEER_PARTITIONS", "many")
    with pytest.raises(ConfigError, match=r"^EDGESTEER_PARTITIONS: "):
        find_broker("x:1")


@pytest.mark.parametrize("wrong", ["host", "host:", ":1", "host:0", "host:65536", "host:x", " , "])
def test_an_address_that_is_none_is_refused_with_the_flag_named(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"^--broker: "):
        find_broker(wrong)


def test_a_password_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGESTEER_SASL_USER", "user")
    monkeypatch.setenv("EDGESTEER_SASL_PASSWORD", "s3cret")
    settings = find_broker("x:1")
    assert settings.client_kwargs()["sasl_plain_password"] == "s3cret"
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json()
    monkeypatch.setenv("EDGESTEER_SECURITY_PROTOCOL", "SSL")
    with pytest.raises(ConfigError) as caught:
        find_broker("x:1")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "protocol"),
    [
        ({}, "PLAINTEXT"),
        ({"tls_ca": "ca.pem"}, "SSL"),
        ({"sasl_user": "u", "sasl_password": "p"}, "SASL_PLAINTEXT"),
        ({"tls_ca": "ca.pem", "sasl_user": "u", "sasl_password": "p"}, "SASL_SSL"),
        ({"security_protocol": "SSL"}, "SSL"),
    ],
)
def test_the_protocol_follows_from_what_is_given(given: dict[str, str], protocol: str) -> None:
    assert BrokerSettings.load(bootstrap="x:1", **given).protocol == protocol


def test_a_tls_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.pem"):
        find_broker("x:1", tls_ca="nowhere.pem").client_kwargs()


def test_several_servers_are_a_list_for_the_client() -> None:
    kwargs = find_broker("a:1, b:2 ,[::1]:3").client_kwargs()
    assert kwargs["bootstrap_servers"] == ["a:1", "b:2", "[::1]:3"]
    assert kwargs["security_protocol"] == "PLAINTEXT"
    assert kwargs["ssl_context"] is None
