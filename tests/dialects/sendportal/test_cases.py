"""The published cases. Those that differ on purpose are told, with what is so instead."""

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from app.database import Database
from tests.dialects.sendportal.cases import CASES, Installation, installation, try_case

GUIDE = Path(__file__).parents[3] / "docs" / "dialects" / "sendportal.md"

_JSON_401 = "401 is JSON, as its documentation has it"
_NO_CLASS = "404 names no class of the vendor's code"

LEFT_OUT: dict[str, str] = {
    "SP002": _JSON_401,
    "SP004": "the word `bearer` is taken in any case, as newer versions of it do",
    "SP031": "errors are JSON, whatever `Accept` says",
    "SP075": _NO_CLASS,
    "SP077": _NO_CLASS,
    "SP084": "a POST that asks to be taken for another method is refused",
    "SP093": _NO_CLASS,
    "SP112": "`per_page` is capped at 1,000",
    "SP116": _NO_CLASS,
    "SP125": "a name is unique whatever its case, as it is there on MariaDB",
    "SP150": _NO_CLASS,
    "SP151": _NO_CLASS,
    "SP158": _NO_CLASS,
}


@pytest.mark.parametrize("name", CASES)
async def test_a_published_case(app: ASGIApp, database: Database, name: str) -> None:
    async with installation(app, database, CASES[name]) as made:
        if name not in LEFT_OUT:
            await try_case(made, CASES[name])
            return
        with pytest.raises(AssertionError):
            await try_case(made, CASES[name])


def test_the_guide_tells_what_is_left_out() -> None:
    rows = re.findall(r"^\| (SP\d+) \| [^|]+ \| ([^|]+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == LEFT_OUT
    assert len(rows) == len(LEFT_OUT)
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    assert f"{len(CASES) - len(rows)} of its {len(CASES)} published cases are answered here" in text
    assert f"; the {len(rows)} others are listed below" in text


# What is so instead, case by case.


async def outcome(made: Installation, name: str) -> Any:
    response = await made.send(CASES[name])
    return response.status_code, response.json()


async def one(app: ASGIApp, database: Database, name: str) -> Any:
    async with installation(app, database, CASES[name]) as made:
        return await outcome(made, name)


async def test_a_bad_key_is_refused_in_json(app: ASGIApp, database: Database) -> None:
    async with installation(app, database, CASES["SP002"]) as made:
        response = await made.send(CASES["SP002"])
    assert (response.status_code, response.text) == (401, '{"message":"Unauthenticated."}')
    assert response.headers["content-type"] == "application/json"
    assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_the_word_bearer_is_taken_in_any_case(app: ASGIApp, database: Database) -> None:
    status, answer = await one(app, database, "SP004")
    assert (status, [tag["id"] for tag in answer["data"]]) == (200, [1])


async def test_an_error_is_json_whatever_accept_says(app: ASGIApp, database: Database) -> None:
    assert await one(app, database, "SP031") == (404, {"message": "No query results for subscriber 999"})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SP075", "No query results for subscriber 999"),
        ("SP077", "No query results for subscriber 3"),
        ("SP093", "No query results for subscriber 999"),
        ("SP116", "No query results for tag 999"),
        ("SP150", "No query results for tag 999"),
        ("SP151", "No query results for tag 4"),
        ("SP158", "No query results for tag 999"),
    ],
)
async def test_what_is_not_there_is_said_without_a_class(
    app: ASGIApp, database: Database, name: str, message: str
) -> None:
    assert LEFT_OUT[name] == _NO_CLASS
    assert await one(app, database, name) == (404, {"message": message})


async def test_a_post_is_not_taken_for_another_call(app: ASGIApp, database: Database) -> None:
    status, answer = await one(app, database, "SP084")
    assert status == 422
    assert answer["message"] == "This request is sent as POST and asks to be taken for PUT. Send it as PUT."


async def test_the_length_of_a_page_is_capped(app: ASGIApp, database: Database) -> None:
    status, answer = await one(app, database, "SP112")
    assert (status, answer["meta"]["per_page"], answer["meta"]["total"]) == (200, 1000, 3)


async def test_a_name_is_taken_in_any_case(app: ASGIApp, database: Database) -> None:
    text = "The tag name must be unique."
    assert await one(app, database, "SP125") == (422, {"message": text, "errors": {"name": [text]}})
