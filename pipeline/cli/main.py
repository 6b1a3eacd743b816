"""The command `edgesteer`: finds the module of a command only when that command is asked for.

Each entry of COMMANDS names a module `pipeline.cli.NAME` that has either `app`, a typer application
(a command with commands of its own), or `command`, a function. `edgesteer --help` imports none of
them, so that it answers at once however heavy the rooms behind the commands are.

Exit status: 0 done, 1 the answer is no or something failed, 2 wrong usage, 130 interrupted.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command as build

from pipeline.errors import EdgesteerError, UsageError

SEE, ASK, FEED, OPERATE = "See it", "Ask", "Feed", "Operate"


class Listed(NamedTuple):
    """One command as `--help` lists it. `module`: under pipeline.cli."""

    panel: str
    module: str
    help: str


COMMANDS: dict[str, Listed] = {
    "demo": Listed(SEE, "demo", "The whole plane on a simulated fleet, live in this terminal."),
    "sim": Listed(SEE, "sim", "Run the simulated fleet, and break things in it."),
    "who": Listed(ASK, "who", "Where an address is served, and why."),
    "table": Listed(ASK, "table", "The steering table: prefix by prefix."),
    "groups": Listed(ASK, "groups", "Ranked sites and shares that prefixes point to."),
    "weights": Listed(ASK, "weights", "How each site spreads its load over its appliances."),
    "sites": Listed(ASK, "sites", "How full each site is, and what its capacity costs."),
    "verdicts": Listed(ASK, "verdicts", "Every change of mind, with its reason."),
    "epochs": Listed(
        ASK, "epochs", "The last closed cut of each cell: hash, size, how far behind."
    ),
    "tail": Listed(ASK, "tail", "The records of any topic, decoded."),
    "dead-letters": Listed(ASK, "dead_letters", "What was refused, and why."),
    "record": Listed(ASK, "record", "A time of the log as one file."),
    "replay": Listed(ASK, "replay", "Fold a recording again; compare it with what was published."),
    "explain": Listed(ASK, "explain", "What a client was answered at a moment, and why."),
    "diff": Listed(ASK, "diff", "What changed between two moments, recordings or settings."),
    "whatif": Listed(ASK, "whatif", "A recording folded with a change: what it would have done."),
    "feed": Listed(FEED, "feed", "Publish real routes."),
    "fleet": Listed(FEED, "fleet", "Publish the inventory: regions, sites, appliances, networks."),
    "drain": Listed(OPERATE, "drain", "Take a site or region out of service, evenly by a time."),
    "undrain": Listed(OPERATE, "undrain", "Put it back, evenly as well."),
    "topics": Listed(OPERATE, "topics", "Create the topics on a broker, or check them."),
    "worker": Listed(OPERATE, "worker", "Run one worker of the steering plane."),
    "bench": Listed(OPERATE, "bench", "Measure, beside what others reach."),
}


def load(name: str) -> TyperCommand | TyperGroup:
    """The real command behind an entry of COMMANDS."""
    module = import_module(f"pipeline.cli.{COMMANDS[name].module}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(module.command)
    command: Any = build(app)
    command.name = name
    loaded: TyperCommand | TyperGroup = command
    return loaded


class LazyGroup(TyperGroup):
    """Lists from COMMANDS; loads on use."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = {
            name: TyperCommand(name, short_help=listed.help, rich_help_panel=listed.panel)
            for name, listed in COMMANDS.items()
        }

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As typer's (unknown names get suggestions), with the listed stand-in made real."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else stand_in, rest


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgesteer {version('edgesteer')}")
        raise typer.Exit


@app.callback()
def edgesteer(
    _version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print it and exit."
    ),
) -> None:
    """A streaming control plane for a video CDN's edge: telemetry in, steering tables out.

    Commands that print data take --json: one object a line on stdout, everything else on stderr.
    Without --broker they use EDGESTEER_BROKER, then the configuration file, then the running demo.
    """


def main() -> NoReturn:
    """Run a command; what it raises on purpose becomes a sentence and a status."""
    try:
        app(prog_name="edgesteer")
    except UsageError as error:
        status, message = 2, str(error)
    except EdgesteerError as error:
        status, message = 1, str(error)
    except KeyboardInterrupt:
        sys.exit(130)
    else:
        sys.exit(0)
    print(f"edgesteer: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


if __name__ == "__main__":
    main()
