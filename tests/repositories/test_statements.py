"""What the statements of repositories have in common, and how many of them each call needs."""

import importlib
import inspect
import itertools
import pkgutil
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from app import repositories
from app.database import Statement, statement_log
from app.models import Base
from tests.conftest import Api
from tests.routers.calls import Json, answered, call, make_contacts, make_key, make_tag, make_tags

# Keys by their hash and provisioning belong to no workspace yet, and the doctor looks at all of them at once.
WITHOUT_WORKSPACE = {"system", "doctor"}
TENANT_TABLES = sorted(table.name for table in Base.metadata.tables.values() if "workspace_id" in table.columns)


def statements_of(module: Any) -> Iterator[Statement]:
    """Those that stand in the module, and all that its cached builders build."""
    for name, value in vars(module).items():
        if isinstance(value, Statement):
            yield value
        elif hasattr(value, "cache_info") and value.__module__ == module.__name__:
            hints = get_type_hints(value.__wrapped__)
            assert hints.pop("return") is Statement, f"{module.__name__}.{name} builds something else"
            parameters = inspect.signature(value).parameters
            choices = [
                [(name, choice) for choice in choices_of(hint, value.__module__, name)] for name, hint in hints.items()
            ]
            for chosen in itertools.product(*choices):
                by_name = dict(chosen)
                positional = [
                    by_name.pop(name) for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD
                ]
                yield value(*positional, **by_name)


# What a builder that takes a tuple knows, each part a clause of its own; or one that takes a clause.
PARTS: dict[tuple[str, str], Any] = {
    ("app.repositories.contact_search", "filters"): (
        "search",
        "email_key",
        "external_id",
        "words",
        "statuses",
        "subscribed",
    ),
    ("app.repositories.contact_search", "condition"): "tagged.ids @> cast(:tags_0 as uuid[])",
    ("app.repositories.tag_contacts", "filters"): ("assigned_after", "assigned_before"),
    ("app.repositories.tags", "filters"): ("search", "tag_ids", "slug"),
}


def choices_of(hint: Any, module: str, name: str) -> Sequence[Any]:
    if hint is bool:
        return (False, True)
    if hint == tuple[str, ...]:
        return [(), PARTS[module, name]]
    if hint == str | None:
        return [None, PARTS[module, name]]
    assert get_origin(hint) is Literal, f"{hint} has no end of choices"
    return get_args(hint)


STATEMENTS = {
    (module.name, f"{statement.name} {place}"): statement
    for module in pkgutil.iter_modules(repositories.__path__)
    if module.name not in WITHOUT_WORKSPACE
    for place, statement in enumerate(statements_of(importlib.import_module(f"app.repositories.{module.name}")))
}


def test_statements_are_found() -> None:
    modules = {module for module, _ in STATEMENTS}
    assert modules >= {
        "audiences",
        "contact_search",
        "contact_tags",
        "contact_upserts",
        "contacts",
        "events",
        "keys",
        "memberships",
        "subscribers",
        "subscriptions",
        "tag_contacts",
        "tags",
    }
    # Built for each way to name contacts, and for each order.
    names = {statement.name for statement in STATEMENTS.values()}
    assert {"tag_contacts.assign.emails", "tag_contacts.unassign.external_ids", "tags.list.-contact_count"} <= names


ACCESS = re.compile(
    r"""
    \b(?:from | join | update | into | using)\s+ (?P<table>[a-z_]+)\b
    (?:\s+(?:as\s+)?(?!(?:on|where|set|join|left|cross|order|for|select|values|using|group|returning|limit)\b)
        (?P<alias>[a-z_]+)\b)?
    """,
    re.VERBOSE,
)


def unscoped(sql: str) -> list[str]:
    """The accesses to tables of tenants that do not say of which workspace, as far as the text tells."""
    text = " ".join(re.sub(r"--[^\n]*", "", sql).split())
    found = [match for match in ACCESS.finditer(text) if match["table"] in TENANT_TABLES]
    broken = []
    for place, match in enumerate(found):
        end = found[place + 1].start() if place + 1 < len(found) else len(text)
        if match["alias"]:
            # Each access by an alias of its own, or one of several by the same one.
            accesses = sum(other["alias"] == match["alias"] for other in found)
            if len(re.findall(rf"\b{match['alias']}\.workspace_id\b", text)) < accesses:
                broken.append(match.group())
        elif "workspace_id" not in text[match.end() : end]:
            broken.append(match.group())
    return broken


@pytest.mark.parametrize(
    "sql",
    [
        "select * from tags where id = :id",
        "select * from tags t where t.id = :id",
        "select * from tags t join contacts c on c.id = t.id where t.workspace_id = :workspace_id",
        "delete from contact_tags where tag_id = :tag_id",
        "update tags set name = :name where id = :id",
        "insert into tags (id, name) values (:id, :name)",
        "select (select count(*) from tags t where t.id = 1) from tags t where t.workspace_id = :workspace_id",
        "delete from contact_tags ct using tags t where ct.workspace_id = :workspace_id and t.id = ct.tag_id",
        "select * from tags -- workspace_id",
    ],
)
def test_a_statement_that_forgets_the_workspace_is_noticed(sql: str) -> None:
    assert unscoped(sql)


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=[" ".join(key) for key in STATEMENTS])
def test_every_access_names_the_workspace(statement: Statement) -> None:
    assert "workspace_id" in statement.parameters
    assert unscoped(statement.sql) == []


# Counted through HTTP. What looks up the key is not among them: it is known for some seconds.

TAGGED: Json = {"tags": ["VIP", "beta"]}

ONE = 1
LOCKED_FIRST = 2
TAGS_FIRST = 2
MEMBERS_FIRST = 2
WITH_TAGS = 2
MADE_FIRST = 2
COUNTED: list[tuple[str, str, Json | None, int]] = [
    ("GET", "/tags", None, ONE),
    ("GET", "/tags?search=v&sort=-contact_count&limit=1", None, ONE),
    ("GET", "/tags/{tag}", None, ONE),
    ("GET", "/tags/{tag}/contacts", None, ONE),
    ("POST", "/tags/{tag}/contacts", {"contact_ids": "{contacts}"}, ONE),
    ("POST", "/tags/{tag}/contacts?on_missing=skip", {"emails": ["c0@example.com", "x@example.com"]}, ONE),
    ("POST", "/tags/{tag}/contacts", {"external_ids": ["c0", "c1"]}, ONE),
    ("DELETE", "/tags/{tag}/contacts", {"contact_ids": "{contacts}"}, ONE),
    ("POST", "/tags/{tag}/contacts/remove", {"emails": ["c0@example.com"]}, ONE),
    ("PUT", "/tags/{tag}/contacts", {"contact_ids": "{contacts}"}, LOCKED_FIRST),
    ("GET", "/contacts/{contact}/tags", None, ONE),
    ("GET", "/contacts/{contact}/tags?audience=*", None, ONE),
    ("GET", "/contacts/{contact}/tags/vip", None, ONE),
    ("POST", "/contacts/{contact}/tags", TAGGED, ONE),
    ("POST", "/contacts/{contact}/tags?create_missing=false", TAGGED, ONE),
    ("POST", "/contacts/{contact}/tags", {"tag_ids": ["{tag}"]}, ONE),
    ("DELETE", "/contacts/{contact}/tags", TAGGED, ONE),
    ("PUT", "/contacts/{contact}/tags/vip", None, ONE),
    ("DELETE", "/contacts/{contact}/tags/vip", None, ONE),
    ("PUT", "/contacts/{contact}/tags", TAGGED, LOCKED_FIRST),
    ("PUT", "/contacts/{contact}/tags", {"tags": []}, LOCKED_FIRST),
    ("PATCH", "/contacts/{contact}/tags", {"add": ["VIP"], "remove": ["beta"]}, LOCKED_FIRST),
    ("PATCH", "/contacts/{contact}/tags", {"add": ["VIP"]}, ONE),
    ("GET", "/contacts", None, ONE),
    ("GET", "/contacts?include_total=true", None, ONE),
    ("GET", "/contacts?include_total=true&search=c", None, MEMBERS_FIRST),
    ("GET", "/contacts?email=c0@example.com", None, ONE),
    ("GET", "/contacts?expand=tags", None, WITH_TAGS),
    ("GET", "/contacts?tags_all=vip&tags_none=beta", None, TAGS_FIRST),
    ("POST", "/contacts/search", {"filter": {"any": ["vip", "beta"]}}, TAGS_FIRST),
    ("POST", "/contacts/search", {"filter": {"none": ["vip"]}, "count_only": True}, TAGS_FIRST),
    ("GET", "/contacts/{contact}", None, ONE),
    ("GET", "/contacts/{contact}/audiences", None, ONE),
    ("GET", "/audiences", None, ONE),
    ("GET", "/keys", None, ONE),
    ("GET", "/keys?include_total=true&limit=1", None, ONE),
    ("POST", "/keys", {"scopes": ["tags:read"], "audience": "newsletter"}, ONE),
    ("POST", "/keys?create_missing=true", {"scopes": ["tags:read"], "client": "new"}, MADE_FIRST),
    ("DELETE", "/keys/{key}", None, ONE),
    ("GET", "/me", None, 0),
    ("GET", "/metrics", None, 0),
]


@pytest.mark.parametrize(("method", "path", "body", "expected"), COUNTED)
async def test_statements_of_a_call(api: Api, method: str, path: str, body: Json | None, expected: int) -> None:
    """As many for what changes something as for what changes nothing, and for many as for one."""
    contacts = await make_contacts(api, 30)
    tag, _ = await make_tags(api, "VIP", "beta")
    await call(api, "PUT", f"/contacts/{contacts[0]}/tags", {"tags": ["VIP"]})
    names = {"tag": tag["id"], "contact": contacts[0], "key": (await make_key(api))["id"]}

    def fill(value: Any) -> Any:
        if value == "{contacts}":
            return contacts
        return [one.format(**names) for one in value] if isinstance(value, list) else value

    sent = body and {field: fill(value) for field, value in body.items()}
    for _ in range(2):
        ran = await statements_of_call(api, method, path.format(**names), sent)
        assert len(ran) == expected, ran


async def statements_of_call(api: Api, method: str, path: str, body: object) -> list[str]:
    answered(await api.get("/me"))
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        response = await api.request(method, path, json=body)
    finally:
        statement_log.reset(token)
    assert response.is_success, response.text
    return ran


async def test_the_log_of_statements_sees_the_key_looked_up(api: Api) -> None:
    """Otherwise the counts above would be of nothing."""
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        await api.get("/tags")
    finally:
        statement_log.reset(token)
    assert ran == ["system.find_key", "tags.list.name"]


async def test_statements_do_not_grow_with_what_is_asked(api: Api) -> None:
    """A batch of a few takes as many as a batch of many."""

    async def count(path: str, body: Json) -> int:
        return len(await statements_of_call(api, "POST", path, body))

    def people(first: int, count: int) -> Json:
        return {"contacts": [{"email": f"p{n}@example.com", "tags": ["a"]} for n in range(first, first + count)]}

    await make_tag(api, "a")
    assert await count("/contacts/batch", people(0, 2)) == await count("/contacts/batch", people(2, 100)) <= 8
    assert await count("/contacts/batch", people(0, 2)) == await count("/contacts/batch", people(2, 100)) <= 8
    one: Json = {"tags": [{"name": "x"}]}
    many: Json = {"tags": [{"name": f"y{n}"} for n in range(100)]}
    assert await count("/tags/batch", one) == await count("/tags/batch", many) <= 5
    assert await count("/tags/batch", one) == await count("/tags/batch", many) == 2
