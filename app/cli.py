"""The command line: `polytag serve`, `provision`, `db upgrade`, `doctor`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

import app
from app import logs, server
from app.config import Settings
from app.embedded import EmbeddedError
from app.errors import AppError
from app.repositories.doctor import Finding, MendedCount
from app.values import SCOPES, slugify

commands = typer.Typer(
    name="polytag",
    help="The tags of contacts, exact and fast, behind one API. The options of serve are also environment variables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database_commands = typer.Typer(help="The database's schema.", no_args_is_help=True)
commands.add_typer(database_commands, name="db")

DataDir = Annotated[
    Path | None, typer.Option(help="Data directory of the bundled PostgreSQL.", envvar="POLYTAG_DATA_DIR")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Your own PostgreSQL instead of the bundled one. Better set in the environment, where lists of processes "
        "do not show its password.",
        envvar="POLYTAG_DATABASE_URL",
        show_envvar=True,
    ),
]


def main() -> None:
    """Run a command. What goes wrong is said in a sentence, with exit status 1."""
    try:
        commands()
    except (server.CannotRun, EmbeddedError) as error:
        _fail(str(error))
    except AppError as error:
        _fail(error.detail)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _fail(message: str) -> None:
    print(f"polytag: {message}", file=sys.stderr)  # noqa: T201
    raise SystemExit(1)


@commands.callback(invoke_without_command=True)
def polytag(
    version: Annotated[bool, typer.Option("--version", help="Print the version, and nothing else.")] = False,
) -> None:
    """The tags of contacts, exact and fast, behind one API. The options of serve are also environment variables."""
    if version:
        typer.echo(f"polytag {app.__version__}")
        raise typer.Exit


@commands.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", envvar="POLYTAG_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", envvar="POLYTAG_PORT")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.", envvar="POLYTAG_WORKERS")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Serve the API.

    Without a database URL the bundled PostgreSQL is started in the data directory. The database is migrated first.
    The first start makes a workspace, and prints its API key once.

    Example: polytag serve --port 9000
    """
    settings = _settings(host=host, port=port, workers=workers, data_dir=data_dir, database_url=database_url)
    logs.configure(settings.log_level, settings.log_format)
    server.serve(settings)


@commands.command()
def provision(
    workspace: Annotated[str, typer.Option(help="Slug of the tenant.")],
    client: Annotated[str, typer.Option(help="Slug of the application that will hold the key.")],
    audience: Annotated[str, typer.Option(help="Slug of the audience in force where a call names none.")],
    scopes: Annotated[
        str | None,
        typer.Option(help=f"What the key may do, with commas between: {','.join(SCOPES)}. All, if left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make a workspace, a client and an audience where they are missing, and one new API key.

    Works beside a running server. The key is shown this once.

    Example: polytag provision --workspace acme --client web --audience newsletter --json
    """
    for option, slug in (("--workspace", workspace), ("--client", client), ("--audience", audience)):
        if not slug or slugify(slug) != slug:
            raise typer.BadParameter(f"{slug!r} must be a slug: a-z, 0-9 and single hyphens.", param_hint=option)
    wanted = tuple(scope.strip() for scope in scopes.split(",")) if scopes is not None else SCOPES
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise typer.BadParameter(
            f"there is no scope {', '.join(map(repr, unknown))}; there are {', '.join(SCOPES)}.", param_hint="--scopes"
        )
    settings = _settings(data_dir=data_dir, database_url=database_url)
    made = server.provision(settings, workspace=workspace, client=client, audience=audience, scopes=wanted)
    if as_json:
        typer.echo(json.dumps({**asdict(made), "key_id": str(made.key_id)}))
        return
    names = {"workspace": made.workspace, "client": made.client, "audience": made.audience}
    made_names = [f"{kind} {names[kind]}" for kind in made.created]
    typer.echo(f"Made in {server.describe_database(settings)}: {', '.join([*made_names, 'an API key'])}.")
    typer.echo(f"The key, shown this once:\n\n  export POLYTAG_KEY={made.key}\n")


@commands.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend the counts of tags first, and say which.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Check that nothing in the database contradicts itself. Exit status 1 and a list when something does.

    Works beside a running server, and only reads unless told to repair. Ids are shown, never a person's data.

    Example: polytag doctor --repair
    """
    settings = _settings(data_dir=data_dir, database_url=database_url)
    logs.configure(settings.log_level, settings.log_format)
    findings: list[Finding] = []
    mended: list[MendedCount] = []

    def tell(result: Finding | MendedCount) -> None:
        if isinstance(result, Finding):
            findings.append(result)
        else:
            mended.append(result)
        if not as_json:
            typer.echo("\n".join(_lines(result)))

    server.doctor(settings, repair=repair, tell=tell)
    broken = {finding.name for finding in findings if finding.broken}
    if as_json:
        checks = [
            {"name": one.name, "ok": not one.broken, "broken": one.broken, "examples": one.examples} for one in findings
        ]
        repaired = [
            {"workspace_id": str(one.workspace_id), "tag_id": str(one.tag_id), "from": one.counted, "to": one.assigned}
            for one in mended
        ]
        typer.echo(json.dumps({"ok": not broken, "checks": checks, "repaired": repaired}))
    else:
        typer.echo("\n".join(_sum_up(broken, checks=len(findings), mended=len(mended))))
    raise typer.Exit(1 if broken else 0)


def _lines(result: Finding | MendedCount) -> Iterator[str]:
    """What the doctor found or did, for people: a line, and one for each example."""
    if isinstance(result, MendedCount):
        ids = f"workspace_id={result.workspace_id} tag_id={result.tag_id}"
        yield f"MENDED  the count of {ids}, from {result.counted:,} to {result.assigned:,}"
        return
    state, number = ("BROKEN", f"{result.broken:,}") if result.broken else ("ok", "none")
    yield f"{state:<7} {result.name:<18} {result.what}: {number}"
    for example in result.examples:
        yield f"{'':<8}{' '.join(f'{name}={value}' for name, value in example.items())}"
    if result.broken > len(result.examples):
        yield f"{'':<8}and {result.broken - len(result.examples):,} more"


def _sum_up(broken: set[str], *, checks: int, mended: int) -> Iterator[str]:
    """What came of it, and what to do next."""
    if mended:
        yield f"Counts that were wrong and are right now: {mended:,}."
    if not broken:
        yield f"All {checks} checks passed."
        return
    yield f"{len(broken)} of {checks} checks found something."
    counts = {"counts", "gone_counts"}
    if broken & counts:
        yield "Counts can be mended, beside a running server too: polytag doctor --repair"
    if broken - counts:
        yield "Nothing mends the rest by itself. Take a dump (pg_dump), and report the lines above; they hold ids only."


@database_commands.command("upgrade")
def upgrade_database(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to the schema of this version. Nothing happens where it is there already.

    Example: POLYTAG_DATABASE_URL=postgresql://polytag:…@db.example.com/polytag polytag db upgrade
    """
    revision = server.upgrade(_settings(data_dir=data_dir, database_url=database_url))
    typer.echo(f"The database is at revision {revision}.")


def _settings(**options: object) -> Settings:
    """The settings of the environment, and over them the options that were given."""
    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        wrong = "; ".join(f"POLYTAG_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        raise server.CannotRun(f"The settings cannot be taken. {wrong}.") from None
