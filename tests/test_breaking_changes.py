"""Which changes of a document are breaking, and that there are none since the last release."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app.main import FRONT_ENDS
from tests.breaking_changes import (
    ACCEPTED,
    ROOT,
    Json,
    NoRelease,
    UnknownPart,
    breaking_changes,
    changes_since_release,
    last_release,
)
from tests.documents import document_of

Edit = Callable[[Json], object]


def test_nothing_breaks_since_the_last_release() -> None:
    changes = changes_since_release()
    if last_release() is None:
        pytest.skip(f"CHANGELOG.md names no released version: {__version__} has no documents to be compared with")
    told = "\n".join(["What is meant goes into ACCEPTED, and into CHANGELOG.md (docs/compatibility.md).", *changes])
    assert sorted(changes) == sorted(ACCEPTED), told


def test_the_committed_documents_are_those_of_the_code() -> None:
    committed = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "openapi").glob("*.json")}
    assert committed == {slug: document_of(slug) for slug in FRONT_ENDS}, "run `make openapi`"


# Rules.


def sample() -> Json:
    """A document with one call that has a bit of all."""
    return {
        "info": {"title": "Sample", "version": "1.0.0"},
        "servers": [{"url": "/"}],
        "paths": {
            "/things": {
                "post": {
                    "operationId": "make_thing",
                    "tags": ["things"],
                    "security": [{"bearer": []}, {"header": ["write"]}],
                    "parameters": [
                        {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer"}},
                        {"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string"}},
                    ],
                    "requestBody": {
                        "required": False,
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/ThingIn"}},
                            "text/csv": {"schema": {"type": "string"}},
                        },
                    },
                    "responses": {
                        "200": {"$ref": "#/components/responses/Made"},
                        "409": {"description": "There is one.", "content": {"application/json": {}}},
                    },
                }
            },
            "/health": {
                "get": {"operationId": "health", "security": [], "responses": {"200": {"description": "Well."}}}
            },
        },
        "components": {
            "schemas": {
                "ThingIn": {
                    "type": "object",
                    "properties": {"value": {"type": "string"}, "note": {"type": "string"}},
                    "required": ["value"],
                },
                "ThingOut": {
                    "type": "object",
                    "properties": {"value": {"type": "string"}, "note": {"type": "string"}},
                    "required": ["value"],
                },
            },
            "responses": {
                "Made": {
                    "description": "It was made.",
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/ThingOut"}},
                        "text/csv": {"schema": {"type": "string"}},
                    },
                    "headers": {
                        "Location": {"required": True, "schema": {"type": "string"}},
                        "ETag": {"schema": {"type": "string"}},
                    },
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Key"},
            },
        },
    }


def call(document: Json) -> Json:
    return document["paths"]["/things"]["post"]  # type: ignore[no-any-return]


def made(document: Json) -> Json:
    return document["components"]["responses"]["Made"]  # type: ignore[no-any-return]


def schema(name: str, document: Json) -> Json:
    return document["components"]["schemas"][name]  # type: ignore[no-any-return]


# What is done to the sample, what is told of that, and what is told of the way back.
EDITS: dict[str, tuple[Edit, list[str], list[str]]] = {
    "a path": (
        lambda d: d["paths"].pop("/health"),
        ["GET /health: is gone. Breaks whoever calls it"],
        [],
    ),
    "a method": (
        lambda d: d["paths"]["/things"].update(get={"operationId": "list_things", "responses": {}}),
        [],
        ["GET /things: is gone. Breaks whoever calls it"],
    ),
    "a server": (
        lambda d: d["servers"].append({"url": "/v1"}),
        [],
        ["servers: /v1 is gone. Breaks every client"],
    ),
    "a schema": (
        lambda d: d["components"]["schemas"].update(Other={"type": "string"}),
        [],
        ["schema Other: is gone. Breaks code that names its class in a generated client"],
    ),
    "an operation id": (
        lambda d: call(d).update(operationId="add"),
        [
            'POST /things: operationId was "make_thing", is "add". Breaks code that calls it by a generated client',
        ],
        [
            'POST /things: operationId was "add", is "make_thing". Breaks code that calls it by a generated client',
        ],
    ),
    "a tag": (
        lambda d: call(d).update(tags=["stuff"]),
        ['POST /things: tags was ["things"], is ["stuff"]. Breaks code that calls it by a generated client'],
        ['POST /things: tags was ["stuff"], is ["things"]. Breaks code that calls it by a generated client'],
    ),
    "a way to send a key": (
        lambda d: call(d)["security"].pop(0),
        ["POST /things: security: http bearer no longer suffices. Breaks clients that call it so"],
        [],
    ),
    "a call that needs a key now": (
        lambda d: d["paths"]["/health"]["get"].update(security=[{"bearer": []}]),
        ["GET /health: security: no key no longer suffices. Breaks clients that call it so"],
        [],
    ),
    "a key for all calls that do not say": (
        lambda d: (d["paths"]["/health"]["get"].pop("security"), d.update(security=[{"bearer": []}])),
        ["GET /health: security: no key no longer suffices. Breaks clients that call it so"],
        [],
    ),
    "a second requirement": (
        lambda d: call(d)["security"][0].update(header=[]),
        ["POST /things: security: http bearer no longer suffices. Breaks clients that call it so"],
        [],
    ),
    "a scope": (
        lambda d: call(d)["security"][1]["header"].append("admin"),
        ["POST /things: security: apiKey header X-Key and write no longer suffices. Breaks clients that call it so"],
        [],
    ),
    "where a key is sent": (
        lambda d: d["components"]["securitySchemes"]["bearer"].update(scheme="basic"),
        ["POST /things: security: http bearer no longer suffices. Breaks clients that call it so"],
        ["POST /things: security: http basic no longer suffices. Breaks clients that call it so"],
    ),
    "what a way to send a key is called": (
        lambda d: (
            d["components"]["securitySchemes"].update(token=d["components"]["securitySchemes"].pop("bearer")),
            call(d)["security"].__setitem__(0, {"token": []}),
        ),
        [],
        [],
    ),
    "a parameter": (
        lambda d: call(d)["parameters"].append({"name": "new", "in": "query", "schema": {"type": "string"}}),
        [],
        ["POST /things: query new: is gone. Breaks clients that send it, which is refused or does nothing"],
    ),
    "a required parameter": (
        lambda d: call(d)["parameters"].append(
            {"name": "new", "in": "query", "required": True, "schema": {"type": "string"}}
        ),
        ["POST /things: query new: is new and has to be sent. Breaks clients that do not know it"],
        ["POST /things: query new: is gone. Breaks clients that send it, which is refused or does nothing"],
    ),
    "a parameter that is required now": (
        lambda d: call(d)["parameters"][0].update(required=True),
        ["POST /things: query limit: has to be sent now. Breaks clients that leave it out"],
        [],
    ),
    "where a parameter is sent": (
        lambda d: call(d)["parameters"][0].update({"in": "cookie"}),
        ["POST /things: query limit: is gone. Breaks clients that send it, which is refused or does nothing"],
        ["POST /things: cookie limit: is gone. Breaks clients that send it, which is refused or does nothing"],
    ),
    "how a parameter is written": (
        lambda d: call(d)["parameters"][0].update(explode=False),
        ["POST /things: query limit: explode was null, is false. Breaks clients that send it"],
        ["POST /things: query limit: explode was false, is null. Breaks clients that send it"],
    ),
    "a header in other letters": (lambda d: call(d)["parameters"][1].update(name="if-match"), [], []),
    "what a parameter takes": (
        lambda d: call(d)["parameters"][0]["schema"].update(maximum=100),
        ["POST /things: query limit: maximum was null, is 100. Breaks clients that send what was valid"],
        [],
    ),
    "what a parameter means that is left out": (
        lambda d: call(d)["parameters"][0]["schema"].update(default=100),
        [],
        ["POST /things: query limit: left out it meant 100, and means nothing. Breaks clients that leave it out"],
    ),
    "a body": (
        lambda d: call(d).pop("requestBody"),
        [
            "POST /things: body: application/json is no longer taken. Breaks clients that send it",
            "POST /things: body: text/csv is no longer taken. Breaks clients that send it",
        ],
        [],
    ),
    "a body that is required now": (
        lambda d: call(d)["requestBody"].update(required=True),
        ["POST /things: body: has to be sent now. Breaks clients that send none"],
        [],
    ),
    "a media type of the body": (
        lambda d: call(d)["requestBody"]["content"].pop("text/csv"),
        ["POST /things: body: text/csv is no longer taken. Breaks clients that send it"],
        [],
    ),
    "a field of the body": (
        lambda d: schema("ThingIn", d)["properties"].update(new={"type": "string"}),
        [],
        ["POST /things: body.new: is gone. Breaks clients that send it, which is refused or does nothing"],
    ),
    "a field of the body that is required now": (
        lambda d: schema("ThingIn", d)["required"].append("note"),
        ["POST /things: body.note: has to be sent now. Breaks clients that leave it out"],
        [],
    ),
    "fields of the body that have no name": (
        lambda d: schema("ThingIn", d).update(additionalProperties=False),
        ["POST /things: body: further fields are no longer taken as they were. Breaks clients that send some"],
        [],
    ),
    "what a body means that leaves out a field": (
        lambda d: schema("ThingIn", d)["properties"].update(
            note={"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
        ),
        [],
        [
            "POST /things: body.note: left out it meant null, and means nothing. Breaks clients that leave it out",
            "POST /things: body.note: may no longer be null. Breaks clients that send it",
        ],
    ),
    "a status of success": (
        lambda d: call(d)["responses"].update({"202": {"description": "Later."}}),
        ["POST /things: answer 202: is a new status of success. Breaks clients that look for the old one"],
        ["POST /things: answer 202: is gone. Breaks clients that wait for it"],
    ),
    "a status of errors": (lambda d: call(d)["responses"].update({"410": {"description": "Gone."}}), [], []),
    "a media type of the answer": (
        lambda d: made(d)["content"].pop("text/csv"),
        ["POST /things: answer 200: is no longer sent as text/csv. Breaks clients that read it so"],
        [],
    ),
    "a media type of an error": (
        lambda d: call(d)["responses"]["409"]["content"].update({"application/problem+json": {}}),
        [],
        ["POST /things: answer 409: is no longer sent as application/problem+json. Breaks clients that read it so"],
    ),
    "a field of the answer": (
        lambda d: (
            schema("ThingOut", d)["properties"].update(new={"type": "string"}),
            schema("ThingOut", d)["required"].append("new"),
        ),
        [],
        ["POST /things: answer 200.new: is gone. Breaks clients that read it"],
    ),
    "a field of the answer that may be missing now": (
        lambda d: schema("ThingOut", d)["required"].remove("value"),
        ["POST /things: answer 200.value: may be missing now. Breaks clients that rely on it"],
        [],
    ),
    "a default in an answer": (lambda d: schema("ThingOut", d)["properties"]["note"].update(default=""), [], []),
    "an answer that has no further fields": (
        lambda d: schema("ThingOut", d).update(additionalProperties=False),
        [],
        [],
    ),
    "a header of the answer": (
        lambda d: made(d)["headers"].pop("ETag"),
        ["POST /things: answer 200 header ETag: is gone. Breaks clients that read it"],
        [],
    ),
    "a header of the answer in other letters": (
        lambda d: made(d)["headers"].update(etag=made(d)["headers"].pop("ETag")),
        [],
        [],
    ),
    "a header of the answer that may be missing now": (
        lambda d: made(d)["headers"]["Location"].update(required=False),
        ["POST /things: answer 200 header Location: may be missing now. Breaks clients that rely on it"],
        [],
    ),
    "what a header of the answer holds": (
        lambda d: made(d)["headers"]["ETag"].update(schema={"type": "integer"}),
        ["POST /things: answer 200 header ETag: may be integer now. Breaks clients that are not ready for it"],
        ["POST /things: answer 200 header ETag: may be string now. Breaks clients that are not ready for it"],
    ),
    "what is said in words": (
        lambda d: (
            call(d).update(summary="Make one.", description="Make one.", deprecated=True),
            schema("ThingOut", d)["properties"]["value"].update(description="It.", examples=["x"], title="Value"),
        ),
        [],
        [],
    ),
}


@pytest.mark.parametrize(("edit", "there", "back"), EDITS.values(), ids=EDITS)
def test_a_change_is_told_if_it_breaks_something(edit: Edit, there: list[str], back: list[str]) -> None:
    edited = sample()
    edit(edited)
    assert edited != sample()
    assert breaking_changes(sample(), edited) == there
    assert breaking_changes(edited, sample()) == back


OPEN: Json = {"type": "object"}
# What is valid by the first is valid by the second, and not the other way round.
NARROW_AND_WIDE: dict[str, tuple[Json, Json]] = {
    "null": ({"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
    "null, in a list": ({"type": "string"}, {"type": ["string", "null"]}),
    "a branch": ({"type": "string"}, {"oneOf": [{"type": "string"}, OPEN]}),
    "of two branches one": (
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": ["string", "integer", "null"]},
    ),
    "another type": ({"type": "integer"}, {"type": ["integer", "string"]}),
    "numbers": ({"type": "integer"}, {"type": "number"}),
    "any type": ({"type": "string"}, {}),
    "a value": ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a", "b"]}),
    "any value": ({"type": "string", "enum": ["a"]}, {"type": "string"}),
    "a second constant": ({"type": "string", "const": "a"}, {"type": "string", "enum": ["b", "a"]}),
    "true is not 1": ({"enum": [1]}, {"enum": [1, True]}),
    "minimum": ({"type": "integer", "minimum": 2}, {"type": "integer", "minimum": 1}),
    "exclusiveMinimum": ({"type": "number", "exclusiveMinimum": 2}, {"type": "number", "exclusiveMinimum": 1}),
    "minLength": ({"type": "string", "minLength": 1}, {"type": "string", "minLength": 0}),
    "minItems": ({"type": "array", "minItems": 1}, {"type": "array"}),
    "minProperties": ({"type": "object", "minProperties": 1}, OPEN),
    "maximum": ({"type": "integer", "maximum": 1}, {"type": "integer", "maximum": 2}),
    "exclusiveMaximum": ({"type": "number", "exclusiveMaximum": 1}, {"type": "number", "exclusiveMaximum": 1.5}),
    "maxLength": ({"type": "string", "maxLength": 120}, {"type": "string", "maxLength": 121}),
    "maxItems": ({"type": "array", "maxItems": 10}, {"type": "array"}),
    "maxProperties": ({"type": "object", "maxProperties": 10}, OPEN),
    "pattern": ({"type": "string", "pattern": "^a"}, {"type": "string"}),
    "format": ({"type": "string", "format": "uuid"}, {"type": "string"}),
    "multipleOf": ({"type": "integer", "multipleOf": 5}, {"type": "integer"}),
    "uniqueItems": ({"type": "array", "uniqueItems": True}, {"type": "array", "uniqueItems": False}),
    "items": (
        {"type": "array", "items": {"type": "string", "format": "uuid"}},
        {"type": "array", "items": {"type": "string"}},
    ),
    "any items": ({"type": "array", "items": {"type": "string"}}, {"type": "array"}),
    "a field of a field": (
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 1}}},
        {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}}},
    ),
    "values of a map": (
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
    ),
    "any values of a map": (
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"type": "object", "additionalProperties": True},
    ),
    "within one of two branches": (
        {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "null"}]},
        {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]},
    ),
}


def with_value(name: str, value: Json) -> Json:
    document = sample()
    schema(name, document)["properties"]["value"] = deepcopy(value)
    return document


@pytest.mark.parametrize(("narrow", "wide"), NARROW_AND_WIDE.values(), ids=NARROW_AND_WIDE)
def test_requests_become_wider_and_answers_narrower(narrow: Json, wide: Json) -> None:
    assert breaking_changes(with_value("ThingIn", narrow), with_value("ThingIn", wide)) == []
    [change] = breaking_changes(with_value("ThingIn", wide), with_value("ThingIn", narrow))
    assert re.match(r"POST /things: body\.value[\w.\[\]*]*: .*\. Breaks clients that send", change)
    assert breaking_changes(with_value("ThingOut", wide), with_value("ThingOut", narrow)) == []
    [change] = breaking_changes(with_value("ThingOut", narrow), with_value("ThingOut", wide))
    assert re.match(r"POST /things: answer 200\.value[\w.\[\]*]*: .*\. Breaks clients that (are not|read)", change)


@pytest.mark.parametrize("name", ["ThingIn", "ThingOut"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "string", "pattern": "^a"}, {"type": "string", "pattern": "^a|b"}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "format": "email"}),
        ({"type": "string"}, {"type": "integer"}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["b"]}),
    ],
)
def test_what_is_neither_wider_nor_narrower_breaks(name: str, one: Json, other: Json) -> None:
    assert breaking_changes(with_value(name, one), with_value(name, other))
    assert breaking_changes(with_value(name, other), with_value(name, one))


def test_a_map_that_is_none_any_more_breaks_its_readers() -> None:
    one = with_value("ThingOut", {"type": "object", "additionalProperties": True})
    other = with_value("ThingOut", {"type": "object", "additionalProperties": False})
    assert breaking_changes(one, other) == [
        "POST /things: answer 200.value: is no map any more. Breaks clients that read it"
    ]


def test_a_schema_that_is_named_is_the_same_as_before() -> None:
    named = with_value("ThingIn", {"$ref": "#/components/schemas/Value", "description": "It."})
    named["components"]["schemas"]["Value"] = {"type": "string"}
    assert breaking_changes(sample(), named) == []
    schema("ThingIn", named)["properties"]["value"]["maxLength"] = 9
    [change] = breaking_changes(sample(), named)
    assert "body.value: maxLength was null, is 9" in change


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ThingIn",
            "POST /things: body.value.all[].leaf: maxLength was null, is 9. Breaks clients that send what was valid",
        ),
        ("ThingOut", None),
    ],
)
def test_a_schema_that_holds_itself_is_compared_once(name: str, expected: str | None) -> None:
    def recursive(leaf: Json) -> Json:
        document = with_value(name, {"$ref": "#/components/schemas/Tree"})
        branches = {"oneOf": [{"type": "object", "properties": {"leaf": leaf}}, {"$ref": "#/components/schemas/Tree"}]}
        document["components"]["schemas"]["Tree"] = {
            "type": "object",
            "properties": {"all": {"type": "array", "items": branches}},
            "required": ["all"],
            "additionalProperties": False,
        }
        return document

    changes = breaking_changes(recursive({"type": "string"}), recursive({"type": "string", "maxLength": 9}))
    assert changes == ([expected] if expected else [])


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d["paths"]["/things"].update(parameters=[]),
        lambda d: call(d).update(callbacks={}),
        lambda d: call(d)["parameters"][0].update(allowReserved=True),
        lambda d: call(d)["requestBody"]["content"]["text/csv"].update(encoding={}),
        lambda d: call(d)["requestBody"].update({"x-odd": 1}),
        lambda d: made(d)["headers"]["ETag"].update(style="simple"),
        lambda d: schema("ThingIn", d).update(allOf=[]),
        lambda d: schema("ThingOut", d).update(patternProperties={}),
        lambda d: d["components"]["securitySchemes"]["bearer"].update(flows={}),
    ],
)
def test_what_would_not_be_compared_is_refused(edit: Edit) -> None:
    edited = sample()
    edit(edited)
    for old, new in ((sample(), edited), (edited, sample())):
        with pytest.raises(UnknownPart):
            breaking_changes(old, new)


# The documents themselves.


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_a_document_does_not_break_itself(slug: str) -> None:
    assert breaking_changes(document_of(slug), deepcopy(document_of(slug))) == []


def fields(name: str, document: Json) -> Json:
    return schema(name, document)["properties"]  # type: ignore[no-any-return]


def in_call(path: str, method: str, document: Json) -> Json:
    return document["paths"][path][method]  # type: ignore[no-any-return]


def drop_parameter(path: str, method: str, name: str) -> Edit:
    def edit(document: Json) -> None:
        operation = in_call(path, method, document)
        kept = [one for one in operation["parameters"] if one["name"] != name]
        assert len(kept) == len(operation["parameters"]) - 1
        operation["parameters"] = kept

    return edit


def set_default(path: str, method: str, name: str, value: int) -> Edit:
    def edit(document: Json) -> None:
        [parameter] = [one for one in in_call(path, method, document)["parameters"] if one["name"] == name]
        parameter["schema"]["default"] = value

    return edit


PLANTED: list[tuple[str, Edit, str]] = [
    ("native", lambda d: d["paths"].pop("/events"), "GET /events: is gone"),
    ("native", lambda d: in_call("/tags", "post", d).update(operationId="add_tag"), "POST /tags: operationId was"),
    ("native", drop_parameter("/tags", "get", "sort"), "GET /tags: query sort: is gone"),
    (
        "native",
        lambda d: in_call("/healthz", "get", d).update(security=[{"bearerAuth": []}]),
        "GET /healthz: security: no",
    ),
    (
        "native",
        lambda d: fields("TagCreate", d)["name"].update(maxLength=60),
        "POST /tags: body.name: maxLength was 120",
    ),
    (
        "native",
        lambda d: schema("TagCreate", d)["required"].append("color"),
        "POST /tags: body.color: has to be sent now",
    ),
    ("native", lambda d: fields("MembershipPut", d)["status"]["enum"].remove("pending"), 'may no longer be "pending"'),
    (
        "native",
        lambda d: fields("TagCreate", d).update(description={"type": "string"}),
        "body.description: may no .* null",
    ),
    (
        "native",
        lambda d: fields("ContactFilter", d)["any"].update(maxItems=1),
        "POST /contacts/search: body.filter.*any: max",
    ),
    ("native", lambda d: fields("TagRead", d).pop("slug"), "GET /tags: answer 200.data.*slug: is gone"),
    ("native", lambda d: schema("ContactRead", d)["required"].remove("email"), "answer 200.*email: may be missing now"),
    ("native", lambda d: fields("TagOutcome", d)["outcome"]["enum"].append("kept"), 'outcome: may be "kept"'),
    ("native", lambda d: fields("Problem", d).pop("code"), r"POST /tags: answer 422\.code: is gone"),
    (
        "native",
        lambda d: d["components"]["headers"]["ETag"]["schema"].update(type="integer"),
        "header ETag: may be integer",
    ),
    (
        "native",
        lambda d: in_call("/tags", "post", d)["responses"].pop("201"),
        "POST /tags: answer 201: is gone",
    ),
    (
        "native",
        lambda d: in_call("/tags", "post", d)["responses"]["201"]["headers"].pop("RateLimit"),
        "POST /tags: answer 201 header RateLimit: is gone",
    ),
    ("topmail", lambda d: d["servers"].clear(), "servers: /topmail is gone"),
    (
        "topmail",
        lambda d: [one["security"].pop() for path in d["paths"].values() for one in path.values()],
        "security: apiKey header X-API-Key no longer suffices",
    ),
    (
        "buttondown",
        lambda d: d.update(json.loads(json.dumps(d).replace("CodedError", "KnownError"))),
        "schema CodedError: is gone",
    ),
    (
        "sendportal",
        lambda d: in_call("/api/v1/tags", "post", d)["requestBody"]["content"].clear(),
        "application/json is no",
    ),
    ("datamailer", lambda d: schema("ContactIn", d)["required"].append("status"), "body.*status: has to be sent now"),
    ("native", set_default("/tags", "get", "limit", 50), "GET /tags: query limit: left out it meant 100, and means 50"),
]


@pytest.mark.parametrize(("slug", "edit", "expected"), PLANTED)
def test_a_change_of_a_document_is_found(slug: str, edit: Edit, expected: str) -> None:
    old, new = document_of(slug), deepcopy(document_of(slug))
    edit(new)
    changes = breaking_changes(old, new)
    assert any(re.search(expected, change) for change in changes), changes


# Releases.


def project(root: Path, changelog: str, **documents: Json) -> Path:
    """A project with this changelog and these documents; those that were released have names that begin so."""
    (root / "openapi" / "released").mkdir(parents=True)
    (root / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    for name, document in documents.items():
        place = root / "openapi" / name.replace("released_", "released/")
        place.with_suffix(".json").write_text(json.dumps(document), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("changelog", "version"),
    [
        ("# Changelog\n\n## Unreleased\n\n### Added\n\n- 1.0.0 of it.\n\n### 1.0.0\n", None),
        ("## Unreleased, after 1.0.0\n", None),
        ("# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2027-02-01\n\n## [1.1.0] - 2027-01-01\n", "1.2.0"),
        ("## 0.10.0 (2027-02-01)\n\n## 0.9.0\n", "0.10.0"),
        ("## v2.0.0-rc.1\n", "2.0.0-rc.1"),
    ],
)
def test_the_last_release_is_read_from_the_changelog(tmp_path: Path, changelog: str, version: str | None) -> None:
    assert last_release(project(tmp_path, changelog)) == version


def test_before_the_first_release_there_is_nothing_to_compare(tmp_path: Path) -> None:
    assert changes_since_release(project(tmp_path, "## Unreleased\n", native=sample())) == []


@pytest.mark.parametrize(
    ("changelog", "documents", "expected"),
    [
        ("## Unreleased\n\n## 1.0.0\n", {}, "names 1.0.0 .* has the documents of nothing"),
        ("## 1.1.0\n\n## 1.0.0\n", {"released_native": sample()}, "names 1.1.0 .* has the documents of 1.0.0"),
        ("## Unreleased\n", {"released_native": sample()}, "names nothing .* has the documents of 1.0.0"),
    ],
)
def test_a_release_has_to_keep_its_documents(
    tmp_path: Path, changelog: str, documents: dict[str, Any], expected: str
) -> None:
    with pytest.raises(NoRelease, match=f"{expected}.*`make release-openapi`"):
        changes_since_release(project(tmp_path, changelog, native=sample(), **documents))


def test_changes_since_the_release_are_told_by_front_end(tmp_path: Path) -> None:
    changed = sample()
    del changed["paths"]["/health"]
    documents = {"released_native": sample(), "released_vendor": sample(), "released_gone": sample()}
    root = project(tmp_path, "## 1.0.0\n", native=sample(), vendor=changed, new=sample(), **documents)
    assert changes_since_release(root) == [
        "gone: is gone. Breaks all its clients",
        "vendor: GET /health: is gone. Breaks whoever calls it",
        "new: is not in openapi/released/, so that nothing is compared",
    ]
