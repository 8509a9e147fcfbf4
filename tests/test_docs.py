"""What the docs say of the code is what the code does."""

import ast
import importlib.util
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from app.config import Settings
from app.errors import FIELD_CODES
from app.frontend import _CODES, _OWN_CODES, _REWORDED
from app.repositories.events import EVENT_TYPES
from app.values import SCOPES
from tests.conftest import Workspace
from tests.dialects.sendportal.test_guide import pasted, served

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def write_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITE_DOCS = write_docs()


@pytest.mark.parametrize("path", WRITE_DOCS.documents(), ids=lambda path: path.name)
def test_a_generated_document_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITE_DOCS.documents()[path], "run `make docs`"


def test_every_setting_is_described() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"`POLYTAG_{name.upper()}`" in text
        assert field.description


def codes_in_the_code() -> Iterator[str]:
    """The codes of fields that are given anywhere, as literals."""
    # The examples of errors in a dialect's manifest have codes that only its own checks give.
    manifests = set((ROOT / "app" / "dialects").glob("*/__init__.py"))
    for path in set((ROOT / "app").rglob("*.py")) - manifests:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"FieldError": 1, "PydanticCustomError": 0}.get(node.func.id)
            if place is not None and len(node.args) > place:
                yield from (
                    inner.value
                    for inner in ast.walk(node.args[place])
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                )
    yield from _OWN_CODES
    yield from _CODES.values()
    yield from (code for code, _ in _REWORDED.values())


def test_every_code_of_a_field_is_described_and_given() -> None:
    assert set(codes_in_the_code()) == set(FIELD_CODES)


@pytest.mark.parametrize("word", [*EVENT_TYPES, *SCOPES])
def test_events_and_scopes_are_described(word: str) -> None:
    assert f"`{word}`" in API


# The lines to paste. The second time what they make is there already.


def section(title: str) -> str:
    return API.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def block_of(title: str, language: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)
    return found[0]


def said_behind(lines: str) -> list[str]:
    """The status that the comment of each call of `see` tells."""
    return re.findall(r"^see .* # (\d{3})", lines, re.MULTILINE)


@pytest.mark.parametrize("title", ["Repeats", "Conditional requests"])
async def test_the_lines_of_the_guide_answer_what_is_said_behind_them(
    database_url: str, workspace: Workspace, title: str
) -> None:
    lines = block_of(title, "sh")
    said = said_behind(lines)
    assert len(said) == lines.count("\nsee ")
    async with served(database_url) as address:
        for is_first in (True, False):
            output = await pasted(lines.replace("http://127.0.0.1:8000", address), workspace)
            assert re.findall(r"^HTTP/1.1 (\d+)", output, re.MULTILINE) == said
            # Within one second the key is the same again.
            if is_first:
                assert output.count("idempotency-replayed: true") == lines.count("idempotency-replayed: true")


def test_no_function_of_the_readme_is_made_anew() -> None:
    """Who has pasted the README's goes on with them; a key must not go where they did not send it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^(\w+)\(\) \{", readme, re.MULTILINE))
    assert named == {"api"}
    assert named.isdisjoint(re.findall(r"^(\w+)\(\) \{", API, re.MULTILINE))


def refused(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json={"code": code}, headers={name.replace("_", "-"): headers[name] for name in headers}
    )


@pytest.mark.parametrize(
    ("answers", "waits", "status"),
    [
        ([httpx.Response(201)], [], 201),
        (
            [
                httpx.ReadTimeout("It broke."),
                refused(503, "unavailable", Retry_After="3"),
                refused(409, "still_running", Retry_After="1"),
                refused(408, "slow_body"),
                httpx.Response(201),
            ],
            [1, 3, 1, 8],
            201,
        ),
        (
            [refused(429, "rate_limited", Retry_After="7"), refused(500, "internal_error"), httpx.Response(200)],
            [7, 2],
            200,
        ),
        ([refused(409, "name_taken")], [], 409),
        ([refused(412, "precondition_failed")], [], 412),
        ([refused(422, "idempotency_key_reused")], [], 422),
    ],
)
def test_the_loop_of_the_guide(
    monkeypatch: pytest.MonkeyPatch, answers: list[httpx.Response | Exception], waits: list[int], status: int
) -> None:
    left = iter(answers)
    sent: set[tuple[str, bytes]] = set()
    waited: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.add((request.headers["idempotency-key"], request.content))
        one = next(left)
        if isinstance(one, Exception):
            raise one
        return one

    monkeypatch.setattr(time, "sleep", waited.append)
    names: dict[str, Any] = {}
    exec(block_of("Errors and retries", "python"), names)  # noqa: S102  # a block of our own guide
    with httpx.Client(base_url="http://polytag.test", transport=httpx.MockTransport(answer)) as client:
        assert names["send"](client, "POST", "/tags", json={"name": "VIP"}).status_code == status
    assert (waited, len(sent), list(left)) == (waits, 1, [])


def test_what_is_repeated_after_is_told_with_its_status() -> None:
    """Each code that the section names has the status that it has."""
    statuses = {code: str(status) for status, code, _ in WRITE_DOCS.problems.CODES}
    rows = re.findall(r"^\| (\d{3}) (`[^|]+) \|", section("Errors and retries"), re.MULTILINE)
    assert {status for status, _ in rows} == {"408", "409", "412", "413", "422", "429", "431", "500", "503"}
    for status, codes in rows:
        for code in re.findall(r"`(\w+)`", codes):
            assert statuses[code] == status
