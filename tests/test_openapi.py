"""The OpenAPI documents: whole, in words, true to the code, and with examples that work when pasted."""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.frontend import NEEDED
from app.main import FRONT_ENDS
from app.openapi import routes_of
from tests.conftest import Api
from tests.described import validator_of
from tests.documents import Operation, document_of, operations_of, resolved
from tests.routers.calls import Json, answered

ROOT = Path(__file__).parent.parent

Node = tuple[str, Any]


def write_openapi() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_openapi", ROOT / "scripts" / "write_openapi.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nodes(value: Any, place: str = "#") -> Iterator[Node]:
    """Everything in a document, with its place. Examples are data, so nothing in them is looked at."""
    yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        if name in {"example", "examples", "default"} and not place.endswith("/properties"):
            continue
        yield from nodes(one, f"{place}/{name}")


def described(slug: str) -> Iterator[Node]:
    """All that has to have a description."""
    document = document_of(slug)
    for place, node in nodes(document):
        if not isinstance(node, dict):
            continue
        for name, one in node.get("properties", {}).items() if not place.endswith("/properties") else ():
            yield f"{place}/properties/{name}", one
        # Those of links are what they are called by.
        parameters = node.get("parameters", ()) if place.startswith("#/paths/") and "/links/" not in place else ()
        for parameter in parameters:
            yield f"{place}/parameters/{parameter['name']}", parameter
        for kind in ("responses", "headers"):
            if not place.endswith("/properties") and isinstance(node.get(kind), dict):
                yield from ((f"{place}/{kind}/{name}", resolved(slug, one)) for name, one in node[kind].items())
    yield from ((f"#/components/schemas/{name}", one) for name, one in document["components"]["schemas"].items())
    yield from ((f"#/tags/{tag['name']}", tag) for tag in document["tags"])


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_all_that_callers_send_and_get_is_described(slug: str) -> None:
    found = list(described(slug))
    assert len(found) > 100
    assert [place for place, node in found if not node.get("description", "").strip()] == []
    assert [place for place, node in found if node.get("description") == "Successful Response"] == []


def examples_in(node: Json, place: str) -> Iterator[tuple[Any, Any]]:
    """The examples that a schema, a parameter, a header or a media type has, each with its schema."""
    if place.endswith(("/properties", "/schemas")):
        return
    schema = node.get("schema", node)
    if "example" in node:
        yield schema, node["example"]
    examples = node.get("examples", ())
    if isinstance(examples, Mapping):
        yield from ((schema, example["value"]) for example in examples.values())
    else:
        yield from ((schema, example) for example in examples)


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_every_example_is_as_its_schema_says(slug: str) -> None:
    checked, wrong = 0, []
    for place, node in nodes(document_of(slug)):
        for schema, example in examples_in(node, place) if isinstance(node, dict) else ():
            checked += 1
            wrong += [f"{place}: {error.message[:300]}" for error in validator_of(slug, schema).iter_errors(example)]
    assert checked
    assert wrong == []


def sent(slug: str) -> dict[str, Json]:
    """The schemas of all that stands in a body, by name."""
    found: dict[str, Json] = {}
    waiting: list[Any] = [operation.bodies for operation in operations_of(slug)]
    while waiting:
        for _, node in nodes(waiting.pop()):
            name = node["$ref"].rpartition("/")[2] if isinstance(node, dict) and "$ref" in node else None
            if name is not None and name not in found:
                found[name] = resolved(slug, node)
                waiting.append(found[name])
    return found


def shows_a_value(field: Json) -> bool:
    branches = field.get("anyOf", [field])
    return bool(
        field.get("examples")
        or all({"enum", "const", "$ref"} & branch.keys() or branch.get("type") == "null" for branch in branches)
        or "$ref" in field.get("items", {})
    )


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_all_that_callers_send_has_an_example(slug: str) -> None:
    fields = [
        (f"{model}.{name}", field)
        for model, schema in sent(slug).items()
        for name, field in schema.get("properties", {}).items()
    ]
    assert [place for place, field in fields if not shows_a_value(field)] == []
    bodies = [(operation.id, schema) for operation in operations_of(slug) for schema in operation.bodies.values()]
    assert bodies
    assert [name for name, schema in bodies if not resolved(slug, schema).get("examples")] == []


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_every_parameter_has_an_example_or_choices(slug: str) -> None:
    schemas = [
        (f"{operation}: {parameter['name']}", parameter["schema"])
        for operation in operations_of(slug)
        for parameter in operation.parameters
    ]
    without = [place for place, schema in schemas if not shows_a_value(schema) and schema.get("type") != "boolean"]
    assert without == []


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_no_parameter_or_body_can_be_null_as_a_whole(slug: str) -> None:
    for operation in operations_of(slug):
        for parameter in operation.parameters:
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), f"{operation}: {parameter['name']}"
        for schema in operation.bodies.values():
            assert {"type": "null"} not in schema.get("anyOf", ()), str(operation)


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_no_default_is_null_or_empty(slug: str) -> None:
    defaults = [
        (place, node["default"])
        for place, node in nodes(document_of(slug))
        if isinstance(node, dict) and "default" in node and not place.endswith("/properties")
    ]
    assert [place for place, default in defaults if default in (None, "", [], {})] == []


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_nothing_that_the_code_marks_for_itself_is_left(slug: str) -> None:
    assert NEEDED not in json.dumps(document_of(slug))


def test_operation_ids_are_the_names_of_the_handlers_and_unique_in_all_documents() -> None:
    seen: list[str] = []
    for slug, front_end in FRONT_ENDS.items():
        ids = [operation.id for operation in operations_of(slug)]
        assert sorted(ids) == sorted(route.endpoint.__name__ for route in routes_of(front_end))
        seen += ids
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_each_call_is_described_and_has_one_tag(slug: str) -> None:
    tags = [tag["name"] for tag in document_of(slug)["tags"]]
    assert len(set(tags)) == len(tags)
    used = set()
    for operation in operations_of(slug):
        [tag] = operation.described["tags"]
        used.add(tag)
        assert operation.described["summary"], str(operation)
        assert operation.described["description"], str(operation)
    assert used == set(tags)


@pytest.mark.parametrize("slug", FRONT_ENDS)
def test_errors_have_the_form_of_the_front_end_alone(slug: str) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & document_of(slug)["components"]["schemas"].keys()
    references = {node["$ref"] for _, node in nodes(document_of(slug)) if isinstance(node, dict) and "$ref" in node}
    for reference in references:
        assert resolved(slug, {"$ref": reference})


WRITE_OPENAPI = write_openapi()


@pytest.mark.parametrize("path", WRITE_OPENAPI.documents(), ids=lambda path: path.name)
def test_a_committed_document_is_the_one_that_is_served(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITE_OPENAPI.documents()[path], "run `make openapi`"


# From here on the examples of the native document are pasted.

NATIVE_CALLS = {operation.id: operation for operation in operations_of("native")}


def example_of(operation: Operation) -> Any:
    """The body that /docs would send; None where the call has none."""
    if not operation.bodies:
        return None
    [schema] = operation.bodies.values()
    return resolved("native", schema)["examples"][0]


async def paste(api: Api, name: str, ids: Mapping[str, str], params: Any = None) -> Any:
    """Send a call as its document shows it, with real ids in its path."""
    operation = NATIVE_CALLS[name]
    response = await api.request(
        operation.method, operation.path.format_map(ids), json=example_of(operation), params=params
    )
    assert response.is_success, f"{name}: {response.text}"
    return answered(response, response.status_code) if operation.method != "GET" else None


async def prepare(api: Api, path: str) -> dict[str, str]:
    """What has to be there for an id to lead to, made by other examples."""
    tags = await paste(api, "create_tags", {})
    contacts = await paste(api, "upsert_contacts", {})
    audience = await paste(api, "create_audience", {})
    key = await paste(api, "create_key", {})
    return {
        "tag_id": tags["data"][0]["tag"]["id"],
        # The last one of the example carries a tag.
        "contact_id": contacts["data"][-1]["contact"]["id"],
        "key_id": key["id"],
        "slug": audience["slug"] if "/audiences/" in path else tags["data"][0]["tag"]["slug"],
    }


@pytest.mark.parametrize("name", NATIVE_CALLS)
async def test_a_call_works_as_its_example_shows_it(api: Api, name: str) -> None:
    path = NATIVE_CALLS[name].path
    # A filter names tags that must be there; all others that have no id in their path work in a new workspace.
    needs_others = "{" in path or name == "search_contacts"
    await paste(api, name, await prepare(api, path) if needs_others else {})


@pytest.mark.parametrize(
    "name",
    [name for name, operation in NATIVE_CALLS.items() if operation.method == "GET" and operation.parameters],
)
async def test_the_parameters_of_a_list_work_as_their_examples_show_them(api: Api, name: str) -> None:
    operation = NATIVE_CALLS[name]
    ids = await prepare(api, operation.path)
    for parameter in operation.parameters:
        # A cursor belongs to one list.
        if parameter["in"] == "query" and parameter["name"] != "cursor":
            for example in parameter["schema"].get("examples", ()):
                await paste(api, name, ids, {parameter["name"]: example})
