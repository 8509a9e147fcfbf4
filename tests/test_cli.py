"""The command line: what every command has, and what each one says, on a real database."""

import asyncio
import inspect
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
import typer.main
from typer.testing import CliRunner

from app import cli, logs, migrate
from app.config import Settings
from app.database import Database
from app.main import FRONT_ENDS
from app.values import SCOPES, is_key
from tests.conftest import Api, MakeDatabase
from tests.databases import empty_database, query
from tests.routers.calls import RANDOM_ID
from tests.test_server import BOUND_SECONDS, POLYTAG, clean_environment


def walk(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command and group, by what is typed for it."""
    yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, *path, name)


EVERYTHING = dict(walk(typer.main.get_command(cli.commands)))
COMMANDS = {name: command for name, command in EVERYTHING.items() if not hasattr(command, "commands")}


def help_of(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As a terminal of 80 columns shows it."""
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner().invoke(cli.commands, [*name.split(), "--help"], prog_name="polytag").output


def options_of(command: Any) -> dict[str, str]:
    return {option: parameter.name for parameter in command.params for option in parameter.opts if option[0] == "-"}


def test_the_commands_that_there_are() -> None:
    expected = {"serve", "provision", "openapi", "keys list", "keys revoke", "db upgrade"}
    assert expected <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_speak_json(name: str) -> None:
    assert "--json" in options_of(COMMANDS[name])


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_command_has_an_example_that_could_be_typed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    docstring = inspect.getdoc(EVERYTHING[name].callback) or ""
    assert re.match(r"[A-Z].{10,70}\.$", docstring.splitlines()[0]), "a sentence that fits the list of commands"
    example = docstring.splitlines()[-1]
    assert f"\n  {example}\n" in help_of(name, monkeypatch), "the example is broken at the end of a line"
    line = re.fullmatch(r"Example: ((?:POLYTAG_\w+=\S+ )*)polytag (.+?)( > \S+)?", example)
    assert line, example
    words = shlex.split(line[2])
    [called] = [other for other in COMMANDS if words[: len(other.split())] == other.split()]
    assert called.startswith(name)
    # Parsed, and not run.
    COMMANDS[called].make_context(called, words[len(called.split()) :]).close()


@pytest.mark.parametrize("name", EVERYTHING)
def test_help_reads_well_on_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of(name, monkeypatch)
    assert text.startswith(f"Usage: polytag {name}".rstrip())
    assert max(map(len, text.splitlines())) <= 80
    assert "<bool>" not in text
    assert "..." not in text.replace("[ARGS]...", ""), "the list of commands cuts a sentence off"
    for option, setting in options_of(EVERYTHING[name]).items():
        shown = re.search(rf"^  {option}\b.*?(?=^  -|\Z)", text, re.DOTALL | re.MULTILINE)
        assert shown, option
        # Broken at the end of a line, it may be.
        variable = f"[env var: POLYTAG_{setting.upper()}]" in " ".join(shown[0].split())
        assert variable is (setting in Settings.model_fields), option


# Runs on a database.


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


class Terminal:
    """Runs commands in this process: a new one takes a second to begin, and does the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        self._monkeypatch = monkeypatch
        self.url = url
        for name in [name for name in os.environ if name.startswith("POLYTAG_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("POLYTAG_DATABASE_URL", url)
        # It would go on logging to a stream that is closed.
        monkeypatch.setattr(logs, "configure", lambda *_: None)

    async def type(self, *words: str) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["polytag", *words])
        out, err = io.StringIO(), io.StringIO()

        def run() -> int:
            with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as exited:
                cli.main()
            return int(exited.value.code or 0)

        # Commands run an event loop of their own.
        status = await asyncio.to_thread(run)
        return Done(status, out.getvalue(), err.getvalue())

    async def ask(self, *words: str) -> Any:
        """The JSON that a command prints, beside which it must say nothing."""
        done = await self.type(*words, "--json")
        assert (done.status, done.err) == (0, "")
        assert done.out.count("\n") == 1
        return json.loads(done.out)

    async def provision(self, workspace: str, *options: str) -> Any:
        words = ("--workspace", workspace, "--client", "web", "--audience", "news", *options)
        return await self.ask("provision", *words)


@pytest.fixture
async def terminal(monkeypatch: pytest.MonkeyPatch, new_database: MakeDatabase) -> Terminal:
    """Where commands are typed, in front of a migrated database that is empty."""
    return Terminal(monkeypatch, await new_database())


async def test_keys_are_listed(terminal: Terminal) -> None:
    assert await terminal.ask("keys", "list") == []
    assert "There is no API key in your own PostgreSQL, " in (await terminal.type("keys", "list")).out

    first = await terminal.provision("beta")
    second = await terminal.provision("acme", "--scopes", "tags:read, tags:read")
    third = await terminal.provision("acme")
    assert second["scopes"] == ["tags:read"]
    listed = await terminal.ask("keys", "list")
    assert [(key["workspace"], key["id"]) for key in listed] == [
        ("acme", third["key_id"]),
        ("acme", second["key_id"]),
        ("beta", first["key_id"]),
    ]
    assert listed[1] == {
        "workspace": "acme",
        "id": second["key_id"],
        "prefix": second["key"][:9],
        "client": "web",
        "scopes": ["tags:read"],
        "audience": "news",
        "created_at": listed[1]["created_at"],
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
        "state": "live",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", listed[1]["created_at"])
    assert [key["workspace"] for key in await terminal.ask("keys", "list", "--workspace", "beta")] == ["beta"]
    unknown = await terminal.type("keys", "list", "--workspace", "nobody")
    assert (unknown.status, unknown.out) == (1, "")
    assert unknown.err == (
        "polytag: There is no workspace nobody. `polytag keys list` shows the keys of all of them.\n"
    )


async def test_the_table_of_keys(terminal: Terminal) -> None:
    made = [await terminal.provision(workspace) for workspace in ("a", "b", "long-name")]
    ids = [one["key_id"] for one in made]
    await query(
        terminal.url, "update api_keys set created_at = '2026-03-29T18:00Z', audience_id = null where id = $1", ids[0]
    )
    await query(
        terminal.url, "update api_keys set expires_at = now(), last_used_at = '2026-03-30T18:30Z' where id = $1", ids[1]
    )
    await query(terminal.url, "update api_keys set revoked_at = now() where id = $1", ids[2])
    done = await terminal.type("keys", "list")
    assert done.err == ""
    head, *rows = [re.split(r"  +", line) for line in done.out.splitlines()]
    assert head == ["id", "prefix", "workspace", "client", "audience", "created", "last used", "state", "scopes"]
    scopes = ",".join(sorted(SCOPES))
    prefixes = [one["key"][:9] for one in made]
    assert rows[0] == [ids[0], prefixes[0], "a", "web", "-", "2026-03-29 18:00", "never", "live", scopes]
    assert rows[1][6:] == ["2026-03-30 18:30", "expired", scopes]
    assert rows[2][7:] == ["revoked", scopes]
    # One below the other.
    assert len({line.index(" web ") for line in done.out.splitlines()[1:]}) == 1
    assert [one["state"] for one in await terminal.ask("keys", "list")] == ["live", "expired", "revoked"]
    assert not any(one["key"] in done.out for one in made)


async def test_a_key_is_revoked(terminal: Terminal) -> None:
    made, kept = await terminal.provision("acme"), await terminal.provision("acme")
    whose = f"The API key {made['key'][:9]}… of client web in workspace acme"
    done = await terminal.type("keys", "revoke", made["key_id"])
    assert (done.status, done.err) == (0, "")
    assert done.out == f"{whose} is revoked. Running services refuse it within 5 seconds.\n"
    listed = {key["id"]: key for key in await terminal.ask("keys", "list")}
    assert [listed[one["key_id"]]["state"] for one in (made, kept)] == ["revoked", "live"]

    again = await terminal.type("keys", "revoke", made["key_id"])
    assert again.status == 0
    assert again.out.startswith(f"{whose} was revoked already, at 20")
    expected = {**listed[made["key_id"]], "was_revoked": True}
    assert await terminal.ask("keys", "revoke", made["key_id"]) == expected
    assert (await terminal.ask("keys", "revoke", kept["key_id"]))["was_revoked"] is False


async def test_no_key_is_revoked(terminal: Terminal) -> None:
    made = await terminal.provision("acme")
    for key_id in (RANDOM_ID, "nonsense", made["key"], made["key"][:9]):
        for options in ((), ("--json",)):
            done = await terminal.type("keys", "revoke", key_id, *options)
            shown = "ptag_…" if key_id == made["key"] else key_id
            assert (done.status, done.out) == (1, "")
            assert done.err == (
                f"polytag: There is no API key with the id {shown}. `polytag keys list` shows the ids.\n"
            )
    assert [key["state"] for key in await terminal.ask("keys", "list")] == ["live"]


async def test_the_schema_in_json(terminal: Terminal) -> None:
    upgraded = await terminal.ask("db", "upgrade")
    assert upgraded["revision"] == migrate.newest_revision()
    assert upgraded["database"].startswith("your own PostgreSQL, ")


# What migrates, and what only looks at a database that is there.
MIGRATES = ["provision --workspace a --client b --audience c", "db upgrade"]
LOOKS = ["keys list", f"keys revoke {RANDOM_ID}", "doctor"]


@pytest.mark.parametrize("words", [*MIGRATES, *LOOKS])
async def test_a_database_that_is_not_there(terminal: Terminal, words: str) -> None:
    url = "postgresql://polytag:hunter2@127.0.0.1:1/nowhere"
    # The log, which is set up to go to standard error, says so as well.
    with structlog.testing.capture_logs():
        done = await terminal.type(*words.split(), "--json", "--database-url", url)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("polytag: The database at 127.0.0.1:1/nowhere cannot be used: ")
    assert ("a user who may create tables there" in done.err) is (words in MIGRATES)
    assert "hunter2" not in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("words", LOOKS)
async def test_what_looks_at_a_database_makes_none(
    terminal: Terminal, words: str, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a directory that was mistyped, nor tables in a database of somebody else."""
    async with empty_database(server_url) as url:
        done = await terminal.type(*words.split(), "--database-url", url)
        assert (done.status, done.out) == (1, "")
        assert done.err.endswith(" is not at this version's schema: polytag db upgrade\n")
        assert await query(url, "select relname from pg_class where relnamespace = 'public'::regnamespace") == []
    monkeypatch.delenv("POLYTAG_DATABASE_URL")
    done = await terminal.type(*words.split(), "--data-dir", str(tmp_path / "mistyped"))
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"polytag: There is no database in {tmp_path / 'mistyped'}. Name another place with --data-dir.\n"
    )
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize("words", LOOKS)
async def test_a_bug_is_not_told_as_what_the_database_says(
    terminal: Terminal, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(Database, "fetch", stumble)
    monkeypatch.setattr(Database, "transaction", stumble)
    monkeypatch.setattr(migrate, "is_current", lambda *_: asyncio.sleep(0, result=True))
    with pytest.raises(KeyError):
        await terminal.type(*words.split())


# Logs while it works.
WITH_A_LOG = """
import structlog
from app import cli, server

def upgrade(settings):
    structlog.get_logger("app.test").warning("noted on the side")
    return "0001"

server.upgrade = upgrade
cli.main()
"""


def test_what_is_logged_is_not_on_standard_output() -> None:
    done = python(WITH_A_LOG, "db", "upgrade", "--json")
    assert (done.returncode, json.loads(done.stdout)["revision"]) == (0, "0001")
    assert "noted on the side" in done.stderr


def python(script: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line after a script has changed something about it."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )


# Documents.


@pytest.mark.parametrize("name", FRONT_ENDS)
async def test_the_document_is_the_one_that_is_served(api: Api, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No setting is looked at, so none can be in the way.
    monkeypatch.setenv("POLYTAG_DATABASE_URL", "nonsense")
    served = (await api.get(f"{FRONT_ENDS[name].mount}/openapi.json")).json()
    choices = [["--front-end", name], ["--front-end", name, "--json"], *([[]] if name == "native" else [])]
    for options in choices:
        printed = CliRunner().invoke(cli.commands, ["openapi", *options])
        assert printed.exit_code == 0
        # In the same order, too.
        assert printed.stdout == json.dumps(served, indent=2) + "\n"
        assert printed.stderr == ""


async def test_a_front_end_that_there_is_not(terminal: Terminal) -> None:
    done = await terminal.type("openapi", "--front-end", "postcard")
    assert (done.status, done.out) == (2, "")
    assert "there is no front end 'postcard'; there is native" in done.err


# The service.


async def test_serve_tells_in_json_where_it_is(terminal: Terminal) -> None:
    parts = urlsplit(terminal.url)
    database = f"your own PostgreSQL, {parts.hostname or 'at its socket'}{parts.path}"
    first, second = [await asyncio.to_thread(serve_until_it_tells, terminal.url) for _ in range(2)]
    for told in (first, second):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", told["address"])
        assert told == {
            "key": told["key"],
            "address": told["address"],
            "docs": f"{told['address']}/docs",
            "database": database,
        }
    [listed] = await terminal.ask("keys", "list")
    assert is_key(first["key"])
    assert listed["prefix"] == first["key"][:9]
    assert second["key"] is None


def serve_until_it_tells(url: str) -> Any:
    """What the service prints until it is stopped: one object, on a line of its own."""
    with subprocess.Popen(
        [POLYTAG, "serve", "--port", "0", "--json"],
        env=clean_environment(POLYTAG_DATABASE_URL=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        try:
            assert service.stdout
            line = service.stdout.readline()
            service.send_signal(signal.SIGTERM)
            rest, log = service.communicate(timeout=BOUND_SECONDS)
        finally:
            service.kill()
    assert rest == ""
    assert "Started server process" in log
    assert "ptag_" not in log
    return json.loads(line)


# The server ends before it has begun.
WITHOUT_A_START = "import uvicorn; from app import cli; uvicorn.Server.run = lambda *_, **__: None; cli.main()"


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_the_first_key_is_not_lost_with_a_start_that_fails(terminal: Terminal, options: tuple[str, ...]) -> None:
    done = python(WITHOUT_A_START, "serve", "--port", "0", *options, POLYTAG_DATABASE_URL=terminal.url)
    assert done.returncode == 1
    assert done.stderr == "polytag: The service could not start; the log above says why.\n"
    found = re.search(r"ptag_\w{38}", done.stdout)
    assert found
    [listed] = await terminal.ask("keys", "list")
    assert listed["prefix"] == found[0][:9]
    if options:
        # No program can take it for the object of a service that answers.
        assert done.stdout == f'{{"key": "{found[0]}"'
