"""What `diff` compares: FILE, FILE@TIME or @TIME, each a View.

Operands that are moments of one recording cost one fold together, unless the second is to be folded
under other settings."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.replay.archive import Recording
from pipeline.replay.changes import Settings
from pipeline.replay.fold import Step, unchanged
from pipeline.replay.view import View
from pipeline.replay.viewfile import is_view, load_view
from pipeline.replay.watch import ParseTime, moment_of, watched

#: Told after every cut: how many were folded, and how many there are.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Operand:
    """`path` None: the broker's log; `time` "": its last moment."""

    text: str
    path: Path | None
    time: str

    @classmethod
    def of(cls, text: str) -> "Operand":
        """What was written: a file that is there, whatever its name, or FILE@TIME, or @TIME."""
        path = Path(text)
        if path.exists() or "@" not in text:
            return cls(text, path, "")
        file, _, time = text.rpartition("@")
        if not time:
            raise UsageError(f"{text}: a time belongs behind the @: an ISO 8601 one, or -40s")
        return cls(text, Path(file) if file else None, time)


def views_of(
    a: Operand,
    b: Operand,
    fetched: Path | None,
    settings: Settings | None,
    parse: ParseTime,
    progress: Progress,
) -> tuple[View, View]:
    """Both as views. `fetched`: where the broker's log was put, for operands without a file;
    `settings`: of B. Raises UsageError and RecordingError."""
    with ExitStack() as stack:
        opened: dict[Path, Recording] = {}
        asked: list[tuple[Operand, Recording | None, int]] = []
        for operand in (a, b):
            path = operand.path or fetched
            assert path is not None
            if is_view(path):
                _check_saved(operand, settings if operand is b else None)
                asked.append((operand, None, 0))
                continue
            if path not in opened:
                opened[path] = stack.enter_context(Recording(path))
            recording = opened[path]
            asked.append((operand, recording, moment_of(recording, operand.time, parse)))
        return _fold(asked, settings, progress)


def _check_saved(operand: Operand, settings: Settings | None) -> None:
    if operand.time:
        raise UsageError(f"{operand.text}: a saved view is of one moment; leave the @TIME out")
    if settings is not None:
        raise UsageError(
            f"{operand.text}: a saved view cannot be folded under other settings; name a recording"
        )


def _fold(
    asked: list[tuple[Operand, Recording | None, int]],
    settings: Settings | None,
    progress: Progress,
) -> tuple[View, View]:
    """Fold each recording once for all its moments; B on its own where it has settings."""
    (a, in_a, at_a), (b, in_b, at_b) = asked
    runs: list[tuple[Recording, dict[str, int], Settings | None]] = []
    if in_a is not None and in_a is in_b and settings is None:
        runs.append((in_a, {"a": at_a, "b": at_b}, None))
    else:
        runs += [(in_a, {"a": at_a}, None)] if in_a is not None else []
        runs += [(in_b, {"b": at_b}, settings)] if in_b is not None else []
    total = sum(cell.cuts for run in runs for cell in run[0].manifest.cells)
    done, found = 0, dict[str, View]()

    def each(step: Step) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    texts: Mapping[str, str] = {"a": a.text, "b": b.text}
    for recording, moments, change in runs:
        watch = watched(recording, list(moments.values()), change or unchanged, each)
        for end, moment in moments.items():
            found[end] = watch.view(moment, texts[end])
    for end, operand in (("a", a), ("b", b)):
        if end not in found:
            assert operand.path is not None
            found[end] = load_view(operand.path).named(operand.text)
    return found["a"], found["b"]
