"""The tree of errors a caller can catch. Fields, not only strings; `str()` is for a person.

EdgesteerError
├── UsageError            the request is wrong: what, where, and what to do
│   ├── ConfigError       a setting or a file (path, line)
│   ├── BrokerUnknown     no broker was named and none was found
│   └── IsolationError    what is meant to be apart from the live topics is not
├── BrokerError           the broker refused or is not there
│   └── TopicMismatch     a topic is missing or laid out otherwise than the registry says
├── LogError              the cut log does not add up
├── SnapshotError         a snapshot is damaged, foreign or of another cell (section)
├── RecordingError        a recording cannot be written or read (path, member)
├── Unexplained           nothing was answered to an address at a time, and why
└── WireError             one record cannot be read (carries a Refusal)
"""

from pathlib import Path

from pipeline.reasons import Refusal


class EdgesteerError(Exception):
    """Root of all errors raised on purpose."""


class UsageError(EdgesteerError):
    """The request is wrong; the message says what, where and what to do."""


class ConfigError(UsageError):
    """A setting or configuration file is wrong."""

    def __init__(self, message: str, *, path: str = "", line: int = 0) -> None:
        self.path, self.line = path, line
        where = f"{path}:{line}: " if path and line else f"{path}: " if path else ""
        super().__init__(where + message)


class BrokerUnknown(UsageError):  # noqa: N818  (reads as what it is)
    """No broker was named and none was found."""


class IsolationError(UsageError):
    """What is meant to be apart from the live topics is not."""


class BrokerError(EdgesteerError):
    """The broker refused, or is not there."""


class TopicMismatch(BrokerError):  # noqa: N818
    """A topic is missing or laid out otherwise than the registry says."""


class LogError(EdgesteerError):
    """The cut log does not add up (a gap, a configuration that nobody published)."""


class RecordingError(EdgesteerError):
    """A recording cannot be written or read; `member` names the place inside, where it is one."""

    def __init__(self, path: Path, problem: str, member: str = "") -> None:
        self.path, self.problem, self.member = path, problem, member
        where = f"{path}: {member}" if member else str(path)
        super().__init__(f"{where}: {problem}")


class Unexplained(EdgesteerError):  # noqa: N818  (reads as what it is)
    """Nothing was answered to an address at a time: the message says why."""


class SnapshotError(EdgesteerError):
    """A snapshot cannot be restored: which section, and what is wrong with it."""

    def __init__(self, section: str, problem: str) -> None:
        self.section, self.problem = section, problem
        super().__init__(f"snapshot section {section}: {problem}")


class WireError(EdgesteerError):
    """One record cannot be read."""

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
