"""`edgesteer sim score`: the plane beside other policies, in a world that answers to decisions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.common import JsonOption, bold, dim, emit, note, progress_line, say
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.sim.loop.layout import Layout
    from pipeline.sim.loop.run import Run
    from pipeline.sim.loop.scenario import Scenario
    from pipeline.sim.loop.score import Scores


def command(
    scenario: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO]...", help="By name, or a TOML file; unset: all."),
    ] = None,
    policy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Several: again. Unset: all.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same table.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="24 sites instead of 200.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write table and plots as one page.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write them as score.md and score.svg.")
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Print scenarios and policies, run none.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run every scenario under every policy and print one table; the best of a column is marked *.

    A simulated cell in closed loop: viewers follow what is published, and what they do is what is
    reported. No broker is needed. Status 0 also where edgesteer is not the best: --json says where.
    """
    from pipeline.sim.loop.layout import FULL, QUICK, build
    from pipeline.sim.loop.page import write_docs, write_page
    from pipeline.sim.loop.run import POLICIES
    from pipeline.sim.loop.score import as_json

    scenarios = _scenarios(scenario)
    if list_:
        _list(scenarios, list(POLICIES), json=json)
        return
    policies = policy or list(POLICIES)
    for name in policies:
        if name not in POLICIES:
            raise UsageError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    runs = _runs(build(seed, QUICK if quick else FULL), scenarios, policies, seed)
    scores = _scores(runs)
    asked = [*(f"--policy {name}" for name in policy or []), *(scenario or [])]
    how = " ".join([f"edgesteer sim score --seed {seed}", *["--quick"] * quick, *asked])
    if html is not None:
        write_page(html, scenarios, runs, scores, how)
    if docs is not None:
        write_docs(docs, scenarios, runs, scores, how)
    if json:
        emit(as_json(scores, seed, "quick" if quick else "full"))
        return
    _print(scenarios, scores)


def _runs(
    layout: "Layout", scenarios: "list[Scenario]", policies: list[str], seed: int
) -> "list[Run]":
    """Every scenario under every policy, one after the other."""
    from pipeline.sim.loop.run import run

    total = len(policies) * sum(one.length_s + one.warm_up_s for one in scenarios)
    done, runs = 0, []
    with progress_line("seconds") as progress:

        def advance() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        for one in scenarios:
            runs += [run(layout, one, name, seed, advance) for name in policies]
    return runs


def _scenarios(asked: list[str] | None) -> "list[Scenario]":
    from pipeline.sim.loop.scenario import load, names, read

    found = []
    for name in asked or names():
        path = Path(name)
        if path.suffix == ".toml":
            try:
                found.append(read(path.stem, path.read_text(), name))
            except OSError as error:
                raise UsageError(f"{name}: cannot be read: {error.strerror}") from error
        else:
            found.append(load(name))
    return found


def _list(scenarios: "list[Scenario]", policies: list[str], *, json: bool) -> None:
    if json:
        for one in scenarios:
            emit({"scenario": one.name, "title": one.title, "says": one.says})
        return
    width = max(len(one.name) for one in scenarios)
    for one in scenarios:
        say(f"{one.name:<{width}}  {one.says}")
    say(f"policies: {', '.join(policies)}")


def _scores(runs: "list[Run]") -> "Scores":
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for one in runs:
        found.setdefault(one.scenario, {})[one.policy] = one.columns
    return found


def _print(scenarios: "list[Scenario]", scores: "Scores") -> None:
    """One table: a block for each scenario, the best of each column marked."""
    from pipeline.sim.loop.meter import COLUMNS
    from pipeline.sim.loop.score import best_of, losses, shown

    cells, starred = [], set()
    for name, policies in scores.items():
        for column in COLUMNS:
            values = {policy: columns[column.name] for policy, columns in policies.items()}
            starred |= {(name, policy, column.name) for policy in best_of(column, values)}
        for policy, columns in policies.items():
            cells.append(
                [
                    shown(column, columns[column.name])
                    + ("*" if (name, policy, column.name) in starred else " ")
                    for column in COLUMNS
                ]
            )
    heads = [f"{column.title} " for column in COLUMNS]
    units = [f"{column.unit} " for column in COLUMNS]
    widths = [max(len(row[at]) for row in (heads, units, *cells)) for at in range(len(COLUMNS))]
    first = max(len(policy) for policies in scores.values() for policy in policies)

    def line(name: str, row: list[str]) -> str:
        right = "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        return f"  {name:<{first}}  {right}".rstrip()

    titles = {one.name: one.title for one in scenarios}
    say(dim(line("", heads)))
    say(dim(line("", units)))
    rows = iter(cells)
    for name, policies in scores.items():
        say(bold(titles[name]) + dim(f"  {name}"))
        for policy in policies:
            say(line(policy, next(rows)))
    lost = losses(scores)
    if lost:
        note(
            f"edgesteer is more than 1 % behind the best in {len(lost)} columns, the worst in "
            f"{sum(one.worst for one in lost)}"
        )
