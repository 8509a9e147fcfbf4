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
from tests.routers.calls import Json

HERE = Path(__file__).parent
CASES: dict[str, Json] = {case["name"]: case for case in json.loads((HERE / "cases.json").read_text(encoding="utf-8"))}

_TYPES: dict[str, type] = {"array": list, "string": str}
_ABSENT = object()

OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda found, wanted: found == wanted and type(found) is type(wanted),
    "ieq": lambda found, wanted: found.lower() == wanted.lower(),
    "in": lambda found, wanted: found in wanted,
    "len": lambda found, wanted: len(found) == wanted,
    "type": lambda found, wanted: isinstance(found, _TYPES[wanted]),
    "matches": lambda found, wanted: isinstance(found, str) and re.fullmatch(wanted, found) is not None,
    "absent": lambda found, _: found is _ABSENT,
}


class Runner:
    """Runs the requests of one case. What they save, and a text of the case's own, fill in what follows."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._names = {"key_live": api.workspace.provisioned.key, "uniq": uuid.uuid4().hex[:12]}

    async def run(self, case: Json) -> None:
        for step in (*case.get("setup", ()), case, *case.get("then", ())):
            await self._run_step(step)

    async def _run_step(self, step: Json) -> None:
        headers = dict(self.filled(step["headers"]))
        body = step.get("raw_body")
        if "body" in step:
            headers["Content-Type"] = "application/json"
            body = json.dumps(self.filled(step["body"]))
        # The client's own key must not stand in for one that a case does not send.
        del self._api.headers["Authorization"]
        try:
            response = await self._api.request(
                step["method"], "/topmail" + self.filled(step["path"]), headers=headers, content=body
            )
        finally:
            self._api.headers["Authorization"] = f"Bearer {self._names['key_live']}"
        self.check(response, step.get("expect", {"status": [200, 201]}))
        for name, path in step.get("save", {}).items():
            self._names[name] = found_at(response.json(), path)

    def check(self, response: httpx.Response, expected: Json) -> None:
        statuses = expected["status"] if isinstance(expected["status"], list) else [expected["status"]]
        assert response.status_code in statuses, response.text
        for one in expected.get("json", ()):
            if one.get("when_status", response.status_code) == response.status_code:
                self._check_one(found_at(response.json(), one["path"]), one)
        for one in expected.get("headers", ()):
            self._check_one(response.headers.get(one["name"], _ABSENT), one)

    def _check_one(self, found: object, wanted: Json) -> None:
        value = wanted.get("value")
        # Patterns have braces of their own.
        value = value if wanted["op"] == "matches" else self.filled(value)
        assert OPERATIONS[wanted["op"]](found, value), f"{wanted}: found {found!r}"

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"{{(\w+)}}", lambda match: self._names[match[1]], value)
        if isinstance(value, list):
            return [self.filled(inner) for inner in value]
        if isinstance(value, dict):
            if "$chars" in value:
                return value["$chars"] * value["$count"]
            if "$repeat" in value:
                # {{i4}} counts, in twelve digits, as the last part of an id has.
                return [value["$repeat"].replace("{{i4}}", f"{n:012}") for n in range(value["$count"])]
            return {name: self.filled(inner) for name, inner in value.items()}
        return value


def found_at(document: Any, path: str) -> Any:
    """What stands at a path like `$.data[0].name`."""
    for name, place in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        try:
            document = document[name or int(place)]
        except (KeyError, IndexError):
            return _ABSENT
    return document


@pytest.mark.parametrize("name", sorted(CASES))
async def test_a_published_case(api: Api, name: str) -> None:
    await Runner(api).run(CASES[name])


@pytest.mark.parametrize(
    ("body", "assertion"),
    [
        ({"a": 1}, {"path": "$.a", "op": "eq", "value": 2}),
        ({"a": True}, {"path": "$.a", "op": "eq", "value": 1}),
        ({"a": 1}, {"path": "$.b", "op": "eq", "value": 1}),
        ({"a": "b"}, {"path": "$.a", "op": "ieq", "value": "c"}),
        ({"a": "b"}, {"path": "$.a", "op": "in", "value": ["c"]}),
        ({"a": [1]}, {"path": "$.a", "op": "len", "value": 2}),
        ({"a": [1]}, {"path": "$.a", "op": "type", "value": "string"}),
        ({"a": [1]}, {"path": "$.a[1]", "op": "type", "value": "string"}),
        ({"a": "bc"}, {"path": "$.a", "op": "matches", "value": "b"}),
        ({"a": 1}, {"path": "$.a", "op": "absent"}),
    ],
)
def test_an_assertion_can_fail(api: Api, body: Json, assertion: Json) -> None:
    with pytest.raises(AssertionError):
        Runner(api).check(httpx.Response(200, json=body), {"status": 200, "json": [assertion]})


def test_a_status_can_be_wrong(api: Api) -> None:
    with pytest.raises(AssertionError):
        Runner(api).check(httpx.Response(201, json={}), {"status": [200, 204]})
