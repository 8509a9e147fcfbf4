"""Workspaces with one of everything that a call can name, and names of what never was.

A world is a workspace and its names, one of each kind that the slots of tests/documents.py take. What is named alike in
two worlds is told apart by a word of its own: `own`, `secret` for another's, and `random` for what never was. The
latter two have the same length, so that answers can have the same bytes.
"""

import base64
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID

import httpx
from starlette.types import ASGIApp

from app.database import Database
from app.dialects.buttondown.typeids import encode
from app.pagination import _CHECKSUM_BYTES, encode_cursor
from app.repositories.audiences import AudienceRepository
from app.repositories.bulk_actions import BulkActionRepository, Selection
from app.repositories.contact_tags import TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.keys import KeyRepository
from app.repositories.tags import TagRepository
from app.values import new_id, slugify
from tests.conftest import Workspace, make_workspace
from tests.documents import Draft, Operation, Slot, all_tested, slots_of, with_key
from tests.routers.calls import run

Names: TypeAlias = dict[str, str | int]

NEVER = "random"
SECRET = "secret"


@dataclass(frozen=True)
class World:
    """A workspace, the names of what is in it, and the id of the audience that all of it is in."""

    workspace: Workspace
    names: Names
    audience_id: UUID = field(repr=False)


def never() -> Names:
    """Names of what nothing has. The ids come after all that there are now, as those of a world made now would."""
    tag, contact, bulk, newsletter = (new_id() for _ in range(4))
    return {
        **_texts(NEVER),
        **_ids(tag, contact, bulk, newsletter, new_id()),
        # Beyond all that the sequences give out.
        "tag_number": 900_000_000_000_001,
        "contact_number": 900_000_000_000_002,
        "secondary_id": 424_243,
    }


async def make_own(database: Database) -> World:
    """The world of who calls: in the audience and the client of its key, and with some names that are still free."""
    workspace = await make_workspace(database)
    world = await _fill(workspace, "own", audience="newsletter")
    world.names.update(
        audience="newsletter",
        client=workspace.principal.client,
        new_email="new@example.com",
        new_external_id="new-7",
        new_tag_name="New Name",
        new_club="new-club",
        new_club_name="New Club",
        secondary_id=77,
    )
    return world


async def make_another(database: Database) -> World:
    """A workspace of somebody else."""
    return await _fill(await make_workspace(database), SECRET, audience="newsletter")


async def make_another_audience(own: World) -> World:
    """Another audience of the same workspace, with tags and people of its own."""
    return await _fill(own.workspace, SECRET, audience=f"{SECRET}-club")


async def _fill(workspace: Workspace, word: str, *, audience: str) -> World:
    texts = _texts(word)
    await workspace.repository(AudienceRepository).create(f"{word}-club", f"{word.title()} Club")
    found = await workspace.repository(AudienceRepository).get(audience)
    tags = workspace.repository(TagRepository)
    # Made by its slug and renamed, since a slug stays; so the one cannot be told from the other.
    made = await tags.create_many([{"name": f"{word} slug"}, {"name": f"{word} second"}], audience=audience)
    tag = made[0].tag
    await tags.update(
        tag.id,
        {
            "name": str(texts["tag_name"]),
            "description": f"{word} description",
            "secondary_id": 424_242 if word == SECRET else 424_240,
        },
    )
    everywhere = [audience] if audience == f"{word}-club" else [audience, f"{word}-club"]
    # A contact is one in all audiences of its workspace, and so is its name.
    name = None if audience == f"{word}-club" else f"{word} name"
    [contact, _] = await workspace.repository(ContactUpsertRepository).upsert(
        [
            NewContact(
                {"email": email, "external_id": external_id, "first_name": name},
                everywhere,
                [TagRef((), name=str(texts["tag_name"]))],
            )
            for email, external_id in (
                (str(texts["email"]), str(texts["external_id"])),
                (f"{word}-second@example.com", f"{word}-8"),
            )
        ],
        audience=audience,
    )
    assert contact.contact
    key = await workspace.repository(KeyRepository).create(
        {"scopes": ["tags:read"], "client": str(texts["client"]), "audience": None}, create_missing=True
    )
    bulk = await workspace.repository(BulkActionRepository).recolor_tags(
        Selection([tag.id]), "#010203", audience=audience, metadata={"ids": [f"{word} metadata"]}
    )
    numbers = {}
    for table, row_id in (("tags", tag.id), ("contacts", contact.contact.id)):
        # As long as those of what never was, and not a part of other numbers in an answer, as a new sequence's are.
        sql = f"update {table} set number = :number where workspace_id = :workspace_id and id = :id returning number"
        number = secrets.randbelow(10**14) + 8 * 10**14
        values = {"workspace_id": workspace.principal.workspace_id, "id": row_id, "number": number}
        numbers[table] = (await run(workspace.database, sql, **values))[0]["number"]
    names: Names = {
        **texts,
        **_ids(tag.id, contact.contact.id, bulk.id, found.id, key.key.id),
        "tag_number": numbers["tags"],
        "contact_number": numbers["contacts"],
        "secondary_id": 424_242,
    }
    return World(workspace, names, found.id)


def _texts(word: str) -> Names:
    return {
        "tag_name": f"{word.title()} Name",
        "tag_slug": f"{word}-slug",
        "email": f"{word}@example.com",
        "external_id": f"{word}-7",
        "audience": f"{word}-club",
        "club": f"{word}-club",
        "client": f"{word}-client",
        # Another's that is free here.
        "new_email": f"{word}@example.com",
        "new_external_id": f"{word}-7",
        "new_tag_name": f"{word.title()} Name",
        "new_club": f"{word}-club",
        "new_club_name": f"{word.title()} Club",
    }


def _ids(tag: UUID, contact: UUID, bulk: UUID, newsletter: UUID, key: UUID) -> Names:
    return {
        "tag": str(tag),
        "tag_typeid": encode("sub_tag", tag),
        "contact": str(contact),
        "contact_typeid": encode("sub", contact),
        "bulk": str(bulk),
        "bulk_typeid": encode("bulk_action", bulk),
        "newsletter": str(newsletter),
        "newsletter_typeid": encode("news", newsletter),
        "key": str(key),
    }


# Requests.


def filled(value: Any, own: Names, tested: Names) -> Any:
    """A part of a request with one's own names in its slots, and these in those under test."""
    if isinstance(value, Slot):
        name = (tested if value.is_tested else own)[value.kind]
        return f"{value.before}{name}" if value.before else name
    if isinstance(value, dict):
        return {key: filled(inner, own, tested) for key, inner in value.items()}
    return [filled(inner, own, tested) for inner in value] if isinstance(value, list) else value


async def send(app: ASGIApp, operation: Operation, draft: Draft, own: World, tested: Names) -> httpx.Response:
    """The request, with one's own key."""

    def fill(value: Any) -> Any:
        return filled(value, own.names, tested)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://polytag.test") as client:
        return await client.request(
            operation.method,
            operation.url(fill(draft.path)),
            params=fill(draft.query),
            headers={
                # As it is, so that its length is that of the body.
                "Accept-Encoding": "identity",
                **with_key(operation.front_end, own.workspace.provisioned.key),
                **{name: str(value) for name, value in fill(draft.headers).items()},
            },
            json=fill(draft.body),
        )


async def cursor_of(app: ASGIApp, operation: Operation, draft: Draft, world: World) -> str | None:
    """The cursor of a world's own list; None where a filter leaves nothing in it."""
    query = {name: value for name, value in draft.query.items() if name not in {"cursor", "offset"}}
    body = draft.body and {name: value for name, value in draft.body.items() if name != "count_only"}
    draft = all_tested(Draft(draft.path, {**query, "limit": 1}, draft.headers, body))
    names = world.names
    if operation.front_end.slug == "datamailer":
        # Its lists are of a client and an audience, which a key of that client asks for.
        names = {**names, "audience": "newsletter", "client": world.workspace.principal.client}
    answer = await send(app, operation, draft, world, names)
    assert answer.is_success, answer.text
    found = re.search(r'"next_cursor":"([^"]+)"', answer.text)
    return found and found[1]


def cursor_of_none(cursor: str, never: Names) -> str:
    """The cursor with the last item that it stands behind replaced by one that never was."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    _, fingerprint, *key = json.loads(raw[_CHECKSUM_BYTES:])
    return encode_cursor(
        fingerprint,
        [
            str(never["tag"])
            if _ID.fullmatch(str(part))
            else part.replace(SECRET, NEVER)
            if isinstance(part, str)
            else part
            for part in key
        ],
    )


# Answers.

Answer: TypeAlias = tuple[int, dict[str, str], str]

_SAME = (
    {"tag", "tag_typeid"},
    {"contact", "contact_typeid"},
    {"bulk", "bulk_typeid"},
    {"newsletter", "newsletter_typeid"},
)


def masked(response: httpx.Response, draft: Draft, tested: Names) -> Answer:
    """Status, headers and body without the request's id and without the names under test, in each of their forms."""
    kinds = {slot.kind for slot in slots_of([draft.path, draft.query, draft.headers, draft.body]) if slot.is_tested}
    for same in _SAME:
        if kinds & same:
            kinds |= same
    forms: dict[str, str] = {}
    for kind in sorted(kinds):
        value = str(tested[kind])
        for form in (value, slugify(value), value.lower()):
            forms.setdefault(form, f"<{kind}>" if form == value else f"<{kind} folded>")
    assert int(response.headers.get("content-length", len(response.content))) == len(response.content)
    return _masked(response, forms)


def loosely(answer: Answer, own: World) -> Answer:
    """An answer without what is new in each world: its ids, numbers, times and keys."""
    status, headers, text = answer
    names = {str(name): f"<own {kind}>" for kind, name in sorted(own.names.items()) if not isinstance(name, int)}

    def loose(value: str) -> str:
        value = _replaced(value, names)
        for pattern, told in _NEW:
            value = pattern.sub(told, value)
        return value

    return (
        status,
        {name: "<etag>" if name == "etag" else loose(value) for name, value in headers.items()},
        loose(text),
    )


_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NEW = [
    (_ID, "<id>"),
    (re.compile(r"\b(sub_tag|sub|news|bulk_action)_[0-9a-z]{26}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|[+-]\d\d:\d\d)?"), "<time>"),
    (re.compile(r"ptag_\w+"), "<key>"),
    (re.compile(r'("(?:number|id|contact_id|subscriber_id|tag_id|secondary_id)":)\d+'), r"\1<number>"),
    (re.compile(r"/\d+\b"), "/<number>"),
]


# What no two answers have in common, nor must have.
_VARYING = {"x-request-id", "content-length", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}


def _masked(response: httpx.Response, forms: dict[str, str]) -> Answer:
    forms = {response.headers["x-request-id"]: "<request>", **forms}
    headers = {name: _replaced(value, forms) for name, value in response.headers.items() if name not in _VARYING}
    # When a key was last used is noted by and by.
    text = re.sub(r'"last_used_at":"[^"]+"', '"last_used_at":null', response.text)
    return response.status_code, headers, _replaced(text, forms)


def _replaced(text: str, forms: dict[str, str]) -> str:
    # The longest first, since one may be a part of another; a number only where it stands by itself.
    for form in sorted((form for form in forms if form), key=len, reverse=True):
        text = re.sub(rf"(?<!\d){form}(?!\d)" if form.isdecimal() else re.escape(form), forms[form], text)
    return text
