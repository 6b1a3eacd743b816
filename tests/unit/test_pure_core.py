"""L11: below topologies there is no clock, no randomness, no loop, no socket and no arithmetic
whose last bits depend on the CPU, except in the rooms named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted(
    path.relative_to(ROOT)
    for pattern in (
        "schemas/*.py",
        "pipeline/wire/*.py",
        "pipeline/state/*.py",
        "pipeline/decide/*.py",
        *(
            f"pipeline/{name}.py"
            for name in ("cell", "closing", "regions", "publish", "cut", "effects")
        ),
        *(f"pipeline/{name}.py" for name in ("config", "errors", "reasons", "memory", "snapshot")),
    )
    for path in ROOT.glob(pattern)
)

#: What reads a clock, throws dice, waits or speaks; and what is topologies' alone.
BANNED_MODULES = {
    *("time", "datetime", "random", "secrets", "uuid", "os", "sys", "signal"),
    *("asyncio", "threading", "multiprocessing", "concurrent", "subprocess", "selectors"),
    *("socket", "ssl", "http", "urllib", "select", "tempfile", "shutil", "logging"),
    *("faust", "mode", "aiokafka", "aiohttp", "rocksdict", "prometheus_client", "structlog"),
    *("uvloop", "typer", "rich", "noida_db", "topologies"),
}
BANNED_CALLS = {"hash", "open", "print", "input", "id", "eval", "exec"}
#: NumPy chooses their code by CPU: other last bits elsewhere (docs/architecture.md).
BANNED_NUMPY = {
    *("random", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "power", "float_power"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh"),
    *("cbrt", "hypot", "datetime64"),
}
#: The rooms that may, and what.
NAMED_ROOMS = {
    ("pipeline/wire/guard.py", "os"): "urandom: the guard's eight bytes, drawn once per process",
    ("schemas/freeze.py", "sys"): "a program of its own, run by hand when a schema changes",
}


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_core_is_where_it_is_looked_for() -> None:
    assert {path.parent.name for path in CORE} == {"schemas", "wire", "state", "decide", "pipeline"}
    assert len(CORE) > 30


@pytest.mark.parametrize("path", CORE, ids=str)
def test_l11_imports_nothing_impure(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    for name in _imports(tree):
        room = (str(path), name.split(".")[0])
        assert room[1] not in BANNED_MODULES or room in NAMED_ROOMS, f"{path} imports {name}"
        assert not name.startswith(("pipeline.cli", "pipeline.broker", "pipeline.feeds")), name
        assert not name.startswith(("pipeline.sim", "pipeline.follow", "pipeline.bench")), name


@pytest.mark.parametrize("path", CORE, ids=str)
def test_l11_calls_nothing_impure(path: Path) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BANNED_CALLS, f"{path}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            numpy = node.value.id in ("np", "numpy") and node.attr in BANNED_NUMPY
            assert not numpy, f"{path}:{node.lineno} uses np.{node.attr}"
