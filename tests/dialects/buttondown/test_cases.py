"""The published cases: requests with what the vendor's documents say of their answers, or leave open.

cases.json holds them. `source` says what a case rests on: the vendor's page on tags (seed), its other pages (upstream),
or what follows from them (inferred). Some name several statuses, where the documents leave a choice.
"""

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Api
from tests.dialects.buttondown.calls import key_of
from tests.routers.calls import Json

HERE = Path(__file__).parent
CASES: dict[str, Json] = {case["name"]: case for case in json.loads((HERE / "cases.json").read_text(encoding="utf-8"))}

# What is not as these cases have it, and why. docs/dialects/buttondown.md tells the same.
LEFT_OUT = {
    "create_color_missing_strict": "`color` may be left out, since clients in use leave it out; the case is that of a "
    "strict server",
    "plan_without_tags_cannot_create": "There are no plans, so every key has tags",
    "subscriber_create_auto_tag_needs_plan": "There are no plans, so every key has tags",
}

_TYPES: dict[str, tuple[type, ...]] = {"array": (list,), "string": (str,), "integer": (int,), "number": (int, float)}
_ABSENT = object()

OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: found == wanted and type(found) is type(wanted),
    "in": lambda found, wanted: found in wanted,
    "contains": lambda found, wanted: wanted in found,
    "not_contains": lambda found, wanted: isinstance(found, list) and wanted not in found,
    "set_eq": lambda found, wanted: sorted(found) == sorted(wanted),
    "len": lambda found, wanted: len(found) == wanted,
    "gte": lambda found, wanted: found >= wanted,
    "type": lambda found, wanted: isinstance(found, _TYPES[wanted]) and not isinstance(found, bool),
    "matches": lambda found, wanted: isinstance(found, str) and re.fullmatch(wanted, found) is not None,
    "exists": lambda found, _: found is not _ABSENT,
    "absent": lambda found, _: found is _ABSENT,
    "null_or_absent": lambda found, _: found is _ABSENT or found is None,
}


class Runner:
    """Runs the requests of one case. What they save, and a text of the case's own, fill in what follows."""

    def __init__(self, api: Api, keys: dict[str, str]) -> None:
        self._api = api
        self._names = {**keys, "uniq": uuid.uuid4().hex[:12]}

    @classmethod
    async def of(cls, api: Api) -> "Runner":
        keys = {
            "key_full": api.workspace.provisioned.key,
            "key_readonly": await key_of(api, scopes=["tags:read", "contacts:read"]),
            "key_none": await key_of(api, scopes=["events:read"]),
            # There are no plans here: it may all.
            "key_free_plan": await key_of(api),
        }
        return cls(api, keys)

    async def run(self, case: Json) -> None:
        for step in (*case.get("setup", ()), case, *case.get("then", ())):
            for number in range(step.get("times", 1)):
                self._names["n"] = str(number)
                await self._run_step(step)

    async def _run_step(self, step: Json) -> None:
        headers = dict(self.filled(step["headers"]))
        body = step.get("raw_body")
        if "body" in step:
            headers["Content-Type"] = "application/json"
            body = json.dumps(self.filled(step["body"]))
        path = "/buttondown" + self.filled(step["path"])
        response = await self._api.request(step["method"], path, headers=headers, content=body)
        expected = step.get("expect", {})
        statuses = expected.get("status", [200, 201])
        statuses = statuses if isinstance(statuses, list) else [statuses]
        assert response.status_code in statuses, response.text
        document = response.json() if response.content else None
        for wanted in expected.get("json", ()):
            if wanted.get("when_status", response.status_code) == response.status_code:
                self._check_one(found_at(document, wanted["path"]), wanted)
        for wanted in expected.get("headers", ()):
            self._check_one(response.headers.get(wanted["name"], _ABSENT), wanted)
        for name, place in step.get("save", {}).items():
            found = found_at(document, place)
            assert found is not _ABSENT
            self._names[name] = str(found)

    def _check_one(self, found: object, wanted: Json) -> None:
        value = wanted.get("value")
        # Patterns have braces of their own.
        value = value if wanted["op"] == "matches" else self.filled(value)
        if wanted["op"] in {"absent", "exists", "null_or_absent"} or found is not _ABSENT:
            assert OPERATIONS[wanted["op"]](found, value), f"{wanted}: found {found!r}"
        else:
            raise AssertionError(f"{wanted}: nothing there")

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"{{(\w+)}}", lambda match: self._names[match[1]], value)
        if isinstance(value, list):
            return [self.filled(inner) for inner in value]
        if isinstance(value, dict):
            return {name: self.filled(inner) for name, inner in value.items()}
        return value


def found_at(document: Any, path: str) -> Any:
    """What stands at a path like `$.results[0].name`; `[*]` means each item of a list."""
    name_or_place = re.compile(r"\.(\w+)|\[(\d+|\*)\]")
    steps = list(name_or_place.finditer(path))
    for number, step in enumerate(steps):
        name, place = step.groups()
        if place == "*":
            rest = "$" + "".join(later.group() for later in steps[number + 1 :])
            return [found_at(item, rest) for item in document]
        try:
            document = document[name or int(place)]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return document


@pytest.mark.parametrize("name", sorted(CASES.keys() - LEFT_OUT.keys()))
async def test_a_published_case(api: Api, name: str) -> None:
    await (await Runner.of(api)).run(CASES[name])


@pytest.mark.parametrize("name", LEFT_OUT)
async def test_a_case_that_is_left_out_is_so_for_a_reason(api: Api, name: str) -> None:
    runner = await Runner.of(api)
    with pytest.raises(AssertionError):
        await runner.run(CASES[name])


def test_the_guide_lists_what_is_left_out() -> None:
    guide = (HERE.parents[2] / "docs" / "dialects" / "buttondown.md").read_text(encoding="utf-8")
    _, _, section = guide.partition("## Cases left out\n")
    section, _, _ = section.partition("\n## ")
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)) == LEFT_OUT


@pytest.mark.parametrize(
    ("body", "assertion"),
    [
        ({"a": 1}, {"path": "$.a", "op": "eq", "value": 2}),
        ({"a": True}, {"path": "$.a", "op": "eq", "value": 1}),
        ({"a": 1}, {"path": "$.b", "op": "eq", "value": 1}),
        ({"a": "b"}, {"path": "$.a", "op": "in", "value": ["c"]}),
        ({"a": ["b"]}, {"path": "$.a", "op": "contains", "value": "c"}),
        ({"a": ["b"]}, {"path": "$.a", "op": "not_contains", "value": "b"}),
        ({"a": [{"b": 1}]}, {"path": "$.a[*].b", "op": "not_contains", "value": 1}),
        ({"a": ["b", "b"]}, {"path": "$.a", "op": "set_eq", "value": ["b"]}),
        ({"a": [1]}, {"path": "$.a", "op": "len", "value": 2}),
        ({"a": 1}, {"path": "$.a", "op": "gte", "value": 2}),
        ({"a": True}, {"path": "$.a", "op": "type", "value": "integer"}),
        ({"a": [1]}, {"path": "$.a[1]", "op": "type", "value": "integer"}),
        ({"a": "x1"}, {"path": "$.a", "op": "matches", "value": "[0-9]"}),
        ({"a": 1}, {"path": "$.b", "op": "exists"}),
        ({"a": None}, {"path": "$.a", "op": "absent"}),
        ({"a": 1}, {"path": "$.a", "op": "null_or_absent"}),
    ],
)
async def test_what_a_case_asserts_can_fail(api: Api, body: Json, assertion: Json) -> None:
    class Answers:
        async def request(self, *_: object, **__: object) -> httpx.Response:
            return httpx.Response(200, json=body)

    step = {"name": "own", "method": "GET", "path": "/", "headers": {}, "expect": {"status": 200, "json": [assertion]}}
    with pytest.raises(AssertionError):
        await Runner(Answers(), {}).run(step)  # type: ignore[arg-type]
