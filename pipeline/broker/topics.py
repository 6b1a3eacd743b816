"""Topics as the registry says: create what is missing, and say what is laid out otherwise.

Why a check at all: three settings of somebody else's topic break laws without a sound. Another
number of partitions puts a region's routes and its health into different cells; `delete` where
`compact` belongs lets a table lose entries that are still good; a compaction lag shorter than the
time between snapshots lets the broker eat the rows that a replay needs. So a worker refuses to
start on any of them; the message names the topic, what it has, what it needs and what mends it.
(A table that is compacted sooner than its followers read it stops no worker: `check` names it.)

Creation never changes a topic that exists: what somebody set on purpose is theirs, and `check` says
what has to change.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from pipeline.broker.admin import TIMEOUT_MS, admin_client, any_node, await_leaders
from pipeline.broker.settings import BrokerSettings
from pipeline.errors import BrokerError, TopicMismatch
from schemas.registry import TOPICS, Cleanup, Role, Topic

#: The broker's limit is on a batch; half a MiB is the fast size for a cut's effects, and this
#: leaves room for the widest record beside it.
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
#: From this replication on a write waits for a second copy: losing one broker loses nothing.
REPLICAS_FOR_QUORUM = 3
TOPIC_ALREADY_EXISTS = 36


class Mistake(StrEnum):
    """What can be wrong with a topic."""

    MISSING = "missing"
    PARTITIONS = "partitions"
    CLEANUP = "cleanup"
    COMPACTION_LAG = "compaction_lag"
    FOLLOWER_LAG = "follower_lag"  # the compaction lag of a table
    RETENTION = "retention"
    MESSAGE_BYTES = "message_bytes"
    MIN_INSYNC = "min_insync"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One thing about one topic that is not as the registry says. `str()` is for a person."""

    topic: str
    mistake: Mistake
    has: str
    needs: str
    remedy: str

    def __str__(self) -> str:
        if self.mistake is Mistake.MISSING:
            return f"{self.topic}: is not there. {self.remedy}"
        what = self.mistake.replace("_", " ")
        return f"{self.topic}: {what} is {self.has}, must be {self.needs}. {self.remedy}"


def partitions_of(topic: Topic, partitions: int) -> int:
    """How many partitions a topic has: those shared by every cell have one."""
    return 1 if topic.role is Role.SHARED else partitions


def configuration(topic: Topic, replication: int) -> dict[str, str]:
    """The broker's settings of one topic, by their Kafka names."""
    config = {
        "cleanup.policy": str(topic.cleanup),
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(MESSAGE_BYTES_MAX),
    }
    if topic.compaction_lag_ms:
        config["min.compaction.lag.ms"] = str(topic.compaction_lag_ms)
    if replication >= REPLICAS_FOR_QUORUM:
        config["min.insync.replicas"] = "2"
    return config


async def create_topics(
    settings: BrokerSettings,
    partitions: int = 0,
    replication: int = 1,
    prefix: str = "",
    topics: Sequence[Topic] = TOPICS,
) -> list[str]:
    """Create every topic of the registry (or of `topics`) that is missing; return the names of
    those created, once each of their partitions has a leader.

    `partitions` 0 takes that of the topics that are there, else the settings' one; `prefix` stands
    before every name. Raises BrokerError when the broker refuses one."""
    async with admin_client(settings) as client:
        laid_out = await _layout(client, prefix)
        partitions = partitions or _co_partitions(laid_out) or settings.partitions
        wanted = [
            NewTopic(
                prefix + topic.name,
                partitions_of(topic, partitions),
                replication,
                topic_configs=configuration(topic, replication),
            )
            for topic in topics
            if topic.name not in laid_out
        ]
        if not wanted:
            return []
        reply = await client.create_topics(wanted, timeout_ms=TIMEOUT_MS)
        created = []
        for name, code, message in reply.topic_errors:
            if code == 0:
                created.append(name)
            elif code != TOPIC_ALREADY_EXISTS:  # somebody else was quicker
                raise BrokerError(f"{name} was not created: {message or for_code(code).__name__}")
        await await_leaders(client, {topic.name for topic in wanted})
    return created


async def check_topics(
    settings: BrokerSettings,
    partitions: int = 0,
    prefix: str = "",
    topics: Sequence[Topic] = TOPICS,
) -> list[Mismatch]:
    """What is not as the registry says, in the registry's order; empty when all is well.

    `partitions` 0 asks only that all co-partitioned topics have the same number."""
    async with admin_client(settings) as client:
        laid_out = await _layout(client, prefix)
    expected = partitions or _co_partitions(laid_out) or settings.partitions
    mismatches: list[Mismatch] = []
    for topic in topics:
        if topic.name in laid_out:
            name, server = prefix + topic.name, settings.bootstrap
            mismatches += _compare(topic, name, laid_out[topic.name], expected, server)
        else:
            command = f"Run `edgesteer topics create --partitions {expected}`."
            needs = f"{partitions_of(topic, expected)} partitions"
            missing = Mismatch(prefix + topic.name, Mistake.MISSING, "not there", needs, command)
            mismatches.append(missing)
    return mismatches


async def require_topics(settings: BrokerSettings, prefix: str = "") -> int:
    """The number of partitions, once all topics are right for a worker. Raises TopicMismatch
    otherwise."""
    mismatches = [
        each
        for each in await check_topics(settings, prefix=prefix)
        if each.mistake is not Mistake.FOLLOWER_LAG
    ]
    if mismatches:
        raise TopicMismatch("\n".join(map(str, mismatches)))
    return await partition_count(settings, prefix)


async def partition_count(settings: BrokerSettings, prefix: str = "") -> int:
    """Partitions of the co-partitioned topics as they are. Raises TopicMismatch without any."""
    async with admin_client(settings) as client:
        count = _co_partitions(await _layout(client, prefix))
    if not count:
        raise TopicMismatch(
            f"broker {settings.bootstrap} has no topic of ours: run `edgesteer topics create`."
        )
    return count


@dataclass(frozen=True, slots=True)
class _Laid:
    """A topic as the broker has it."""

    partitions: int
    replication: int
    config: Mapping[str, str]


async def _layout(client: AIOKafkaAdminClient, prefix: str) -> dict[str, _Laid]:
    """Registry name -> how it is laid out, for those that are there.

    All topics are listed, not ours by name: asking for a name creates it where the broker creates
    topics by itself."""
    described = {
        topic["topic"].removeprefix(prefix): topic["partitions"]
        for topic in await any_node(client.describe_topics)
        if topic["topic"].startswith(prefix)
    }
    ours = [topic.name for topic in TOPICS if topic.name in described]
    if not ours:
        return {}
    names = [prefix + name for name in ours]
    configs = await any_node(lambda: _configs(client, names))
    return {
        name: _Laid(
            len(described[name]),
            min(len(partition["replicas"]) for partition in described[name]),
            configs[prefix + name],
        )
        for name in ours
    }


async def _configs(client: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Topic -> its settings by their Kafka names. Raises what the broker says of one of them."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, str]] = {}
    for reply in await client.describe_configs(asked):
        for resource in reply.to_object()["resources"]:
            if resource["error_code"]:
                raise for_code(resource["error_code"])(resource["error_message"])
            entries = resource["config_entries"]
            values = {entry["config_names"]: entry["config_value"] for entry in entries}
            configs[resource["resource_name"]] = values
    return configs


def _co_partitions(laid_out: Mapping[str, _Laid]) -> int:
    """The number most co-partitioned topics have (the larger of equals); 0 without any."""
    counts = Counter(
        laid_out[topic.name].partitions
        for topic in TOPICS
        if topic.role is not Role.SHARED and topic.name in laid_out
    )
    return max(counts, key=lambda count: (counts[count], count), default=0)


def _compare(
    topic: Topic, name: str, laid: _Laid, partitions: int, server: str
) -> Iterator[Mismatch]:
    """Everything about one topic that would break something."""
    needed = partitions_of(topic, partitions)
    if laid.partitions != needed:
        remedy = (
            "A region's records must meet in one partition of every topic, and adding partitions "
            f"moves regions: create {name} anew."
        )
        yield Mismatch(name, Mistake.PARTITIONS, str(laid.partitions), str(needed), remedy)
    wanted = configuration(topic, laid.replication)
    for mistake, key, holds in _RULES:
        if key not in wanted or (mistake is Mistake.RETENTION and topic.cleanup is Cleanup.COMPACT):
            continue
        if mistake is Mistake.COMPACTION_LAG and topic.role is Role.TABLE:
            mistake = Mistake.FOLLOWER_LAG
        has = laid.config.get(key, "unknown")
        if not holds(has, wanted[key]):
            remedy = (
                f"Run `kafka-configs.sh --bootstrap-server {server} --alter --topic {name} "
                f"--add-config '{key}=[{wanted[key]}]'`."
            )
            yield Mismatch(name, mistake, has, wanted[key], remedy)


def _same_set(has: str, needs: str) -> bool:
    return set(has.split(",")) == set(needs.split(","))


def _at_least(has: str, needs: str) -> bool:
    return has.isdigit() and int(has) >= int(needs)


def _kept_as_long(has: str, needs: str) -> bool:
    return has == "-1" or (needs != "-1" and _at_least(has, needs))


_RULES = (
    (Mistake.CLEANUP, "cleanup.policy", _same_set),
    (Mistake.COMPACTION_LAG, "min.compaction.lag.ms", _at_least),
    (Mistake.RETENTION, "retention.ms", _kept_as_long),
    (Mistake.MESSAGE_BYTES, "max.message.bytes", _at_least),
    (Mistake.MIN_INSYNC, "min.insync.replicas", _at_least),
)
