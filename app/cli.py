"""The command line: `polytag serve`, `provision`, `doctor`, `openapi`, `keys`, `db`.

Each command prints for people, or with --json one JSON value, and nothing else on standard output. Its docstring ends
with an example, on a line that fits a terminal of 80 columns.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

import app
from app import embedded, logs, server
from app.config import Settings
from app.embedded import EmbeddedError
from app.errors import AppError
from app.logs import shown
from app.main import DIALECTS, FRONT_ENDS, openapi_document
from app.repositories.doctor import Finding, HeldCount, MendedCount
from app.repositories.system import WorkspaceKey
from app.values import SCOPES, slugify

commands = typer.Typer(
    name="polytag",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # In its panels typer names the type of every option, that of a flag too, which takes no value: --json <bool>.
    rich_markup_mode=None,
)
key_commands = typer.Typer(no_args_is_help=True)
commands.add_typer(key_commands, name="keys")
database_commands = typer.Typer(no_args_is_help=True)
commands.add_typer(database_commands, name="db")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Data directory of the bundled PostgreSQL.", envvar="POLYTAG_DATA_DIR")
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="Your own PostgreSQL instead of the bundled one. Better set in the environment, where lists of processes "
        "do not show its password.",
        envvar="POLYTAG_DATABASE_URL",
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
    """The tags of contacts, exact and fast, behind one API.

    Options can be set as environment variables, too; the help of each command names them.

    Example: polytag serve
    """
    if version:
        typer.echo(f"polytag {app.__version__}")
        raise typer.Exit


@commands.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", envvar="POLYTAG_HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", envvar="POLYTAG_PORT")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.", envvar="POLYTAG_WORKERS")] = None,
    dialects: Annotated[
        str | None,
        typer.Option(
            help=f"Vendors whose APIs are served too: {', '.join(dialect.slug for dialect in DIALECTS)}; with commas "
            "between, or all, or none.",
            envvar="POLYTAG_DIALECTS",
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Serve the API until told to stop.

    Without a database URL the bundled PostgreSQL is started in the data directory. The database is migrated first.
    The first start makes a workspace, and prints its API key once.

    With --json it prints one object once it answers: key (the first one, or null), address, docs, database. If the
    start fails, a key that was made is printed all the same, in an object that breaks off.

    Example: polytag serve --port 9000
    """
    settings = _settings(
        host=host, port=port, workers=workers, dialects=dialects, data_dir=data_dir, database_url=database_url
    )
    server.serve(settings, as_json=as_json)


@commands.command()
def provision(
    workspace: Annotated[str, typer.Option(help="Slug of the tenant.")],
    client: Annotated[str, typer.Option(help="Slug of the application that will hold the key.")],
    audience: Annotated[str, typer.Option(help="Slug of the audience in force where a call names none.")],
    scopes: Annotated[
        str | None,
        typer.Option(help=f"What the key may do: {', '.join(SCOPES)}; with commas between. All, if left out."),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make an API key, and what it is for.

    The workspace, the client and the audience are made where they are missing. The key is shown this once. Works
    beside a running server.

    Example: polytag provision --workspace acme --client web --audience news
    """
    for option, slug in (("--workspace", workspace), ("--client", client), ("--audience", audience)):
        if not slug or slugify(slug) != slug:
            raise typer.BadParameter(f"{shown(slug)!r} must be a slug: a-z, 0-9 and single hyphens.", param_hint=option)
    wanted = tuple(dict.fromkeys(scope.strip() for scope in scopes.split(","))) if scopes is not None else SCOPES
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise typer.BadParameter(
            f"there is no scope {', '.join(repr(shown(scope)) for scope in unknown)}; there are {', '.join(SCOPES)}.",
            param_hint="--scopes",
        )
    settings = _settings(data_dir=data_dir, database_url=database_url)
    if settings.database_url is None and not embedded.has_data(settings.data_dir):
        # Beside a service that has its data elsewhere, the key would be good for nothing.
        print(  # noqa: T201
            f"polytag: there is no database in {settings.data_dir} yet, so a new one is made. A service that runs "
            "already has another one: name its place with --data-dir or POLYTAG_DATA_DIR.",
            file=sys.stderr,
        )
    made = server.provision(settings, workspace=workspace, client=client, audience=audience, scopes=wanted)
    if as_json:
        _print_json(asdict(made))
        return
    names = {"workspace": made.workspace, "client": made.client, "audience": made.audience}
    made_names = [f"{kind} {names[kind]}" for kind in made.created]
    typer.echo(f"Made in {server.describe_database(settings)}: {', '.join([*made_names, 'an API key'])}.")
    typer.echo(f"The key, shown this once:\n\n  export POLYTAG_KEY={made.key}\n")


@commands.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend the counts of tags first, and say which.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Check that nothing in the database contradicts itself.

    Exit status 1, and a list, when something does. Works beside a running server, and only reads unless told to repair.
    A count that another transaction holds is skipped, and stays in the list. Ids are shown, never a person's data.

    Example: polytag doctor --repair
    """
    settings = _settings(data_dir=data_dir, database_url=database_url)
    findings: list[Finding] = []
    mended: list[MendedCount] = []
    held: list[HeldCount] = []

    def tell(result: Finding | MendedCount | HeldCount) -> None:
        match result:
            case Finding():
                findings.append(result)
            case MendedCount():
                mended.append(result)
            case HeldCount():
                held.append(result)
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
        skipped = [{"workspace_id": str(one.workspace_id), "tag_id": str(one.tag_id)} for one in held]
        _print_json({"ok": not broken, "checks": checks, "repaired": repaired, "skipped": skipped})
    else:
        typer.echo("\n".join(_sum_up(broken, checks=len(findings), mended=len(mended))))
    raise typer.Exit(1 if broken else 0)


@commands.command()
def openapi(
    front_end: Annotated[str, typer.Option(help=f"Which one: {', '.join(FRONT_ENDS)}.")] = "native",
    as_json: AsJson = False,  # noqa: ARG001 - it is JSON in any case
) -> None:
    """Print the OpenAPI document of a front end.

    It is what a running service has at /openapi.json, but for its public URL, and needs neither a database nor
    settings. It is JSON with --json and without.

    Example: polytag openapi > openapi.json
    """
    if front_end not in FRONT_ENDS:
        raise typer.BadParameter(
            f"there is no front end {front_end!r}; there is {', '.join(FRONT_ENDS)}.", param_hint="--front-end"
        )
    _print_json(openapi_document(FRONT_ENDS[front_end]), indent=2)


@key_commands.callback()
def keys() -> None:
    """The API keys of all workspaces.

    Example: polytag keys list
    """


@key_commands.command("list")
def list_keys(
    workspace: Annotated[str | None, typer.Option(help="Slug of a tenant. Keys of all tenants, if left out.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List API keys, dead ones too.

    By workspace, the newest first, with times in UTC. The keys themselves are kept nowhere: a key is known by its id,
    and by its first characters. Works beside a running server.

    Example: polytag keys list --workspace acme
    """
    settings = _settings(data_dir=data_dir, database_url=database_url)
    found = server.list_keys(settings, workspace)
    if as_json:
        _print_json([_fields(one) for one in found])
    elif found:
        typer.echo(_table(found))
    else:
        typer.echo(f"There is no API key in {server.describe_database(settings)}. `polytag provision` makes one.")


@key_commands.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `polytag keys list` shows it.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """End an API key, for good.

    Running services refuse it within 5 seconds. A key that is revoked already is no error.

    Example: polytag keys revoke 0190a0a0-0000-7000-8000-000000000001
    """
    revoked = server.revoke_key(_settings(data_dir=data_dir, database_url=database_url), key_id)
    if as_json:
        _print_json({**_fields(revoked), "was_revoked": revoked.was_revoked})
        return
    key = f"The API key {revoked.key.prefix}… of client {revoked.key.client} in workspace {revoked.workspace}"
    if revoked.was_revoked:
        typer.echo(f"{key} was revoked already, at {_minute(revoked.key.revoked_at)} UTC.")
    else:
        typer.echo(f"{key} is revoked. Running services refuse it within 5 seconds.")


@database_commands.callback()
def database() -> None:
    """The database's schema.

    Example: polytag db upgrade
    """


@database_commands.command("upgrade")
def upgrade_database(as_json: AsJson = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Bring the database to this version's schema.

    Nothing happens where it is there already. `polytag serve` does it by itself.

    Example: POLYTAG_DATABASE_URL=postgresql://db/polytag polytag db upgrade
    """
    settings = _settings(data_dir=data_dir, database_url=database_url)
    revision = server.upgrade(settings)
    if as_json:
        _print_json({"revision": revision, "database": server.describe_database(settings)})
    else:
        typer.echo(f"The database is at revision {revision}.")


def _table(keys: Iterable[WorkspaceKey]) -> str:
    now = datetime.now(UTC)
    rows = [("id", "prefix", "workspace", "client", "audience", "created", "last used", "state", "scopes")]
    for one in keys:
        key = one.key
        rows.append(
            (
                str(key.id),
                key.prefix,
                one.workspace,
                key.client,
                key.audience or "-",
                _minute(key.created_at),
                _minute(key.last_used_at),
                key.state(now),
                # Last, since it is as long as all the others.
                ",".join(key.scopes),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _minute(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _fields(one: WorkspaceKey) -> dict[str, object]:
    return {"workspace": one.workspace, **asdict(one.key), "state": one.key.state(datetime.now(UTC))}


def _print_json(value: object, *, indent: int | None = None) -> None:
    typer.echo(json.dumps(value, indent=indent, default=_plain))


def _plain(value: object) -> str:
    # Times as they are over HTTP.
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)


def _settings(**options: object) -> Settings:
    """The settings of the environment, and over them the options that were given. The log is set up by them."""
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        # A rule of ours is a sentence about the variable; the library puts words before it.
        wrong = "; ".join(
            f"POLYTAG_{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise server.CannotRun(f"The settings cannot be taken. {wrong}.") from None
    # Before anything is logged: standard output is for what the command prints.
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _lines(result: Finding | MendedCount | HeldCount) -> Iterator[str]:
    """What the doctor found or did, for people: a line, and one for each example."""
    if not isinstance(result, Finding):
        count = f"the count of workspace_id={result.workspace_id} tag_id={result.tag_id}"
        if isinstance(result, MendedCount):
            yield f"MENDED  {count}, from {result.counted:,} to {result.assigned:,}"
        else:
            yield f"SKIPPED {count}: another transaction holds it"
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
