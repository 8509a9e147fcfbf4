"""The list of contacts: whom it has, its filters, and its walk."""

from typing import Any

import pytest
from starlette.types import ASGIApp

from app.repositories import contact_tags
from tests.conftest import Api
from tests.dialects.datamailer.calls import (
    SCOPE,
    STATUS_KEYS,
    colleague,
    colleagues,
    emails,
    listed,
    refuse,
    status_of,
    subscribe,
    unsubscribe,
    upsert,
)
from tests.dialects.datamailer.worlds import is_recent
from tests.routers.calls import Json, make_tag, state_of


async def walked(api: Api, *, by: str = "cursor", **params: Any) -> list[list[str]]:
    """The addresses on every page, from cursor to cursor."""
    pages = []
    cursor: dict[str, str] = {}
    while True:
        page = await listed(api, **params, **cursor)
        assert page["count"] <= int(params["limit"])
        pages.append([contact["email"] for contact in page["contacts"]])
        assert len(pages) < 20, "the walk does not come to an end"
        if page["next_cursor"] is None:
            return pages
        assert page["count"] == int(params["limit"])
        cursor = {by: page["next_cursor"]}


async def test_an_empty_list(api: Api) -> None:
    page = await listed(api)
    assert page == {"audience": "newsletter", "client": "web", "count": 0, "next_cursor": None, "contacts": []}
    assert list(page) == ["audience", "client", "count", "next_cursor", "contacts"]


async def test_a_contact_of_a_list_has_its_status_its_tags_and_more(api: Api) -> None:
    await subscribe(api, "Ada@Example.com", tags=["vip", "a b", "a-", "a_c", "A"])
    await unsubscribe(api, reason="moved")
    [contact] = (await listed(api))["contacts"]
    more = ["subscription_status", "unsubscribed", "unsubscribed_at", "unsubscribe_reason", "created_at", "updated_at"]
    assert list(contact) == [*STATUS_KEYS, "tags", *more]
    found = await status_of(api)
    assert {key: contact[key] for key in STATUS_KEYS} == found
    # In the order of code points, as everywhere.
    assert contact["tags"] == ["a", "a-b", "a_c", "vip"]
    assert contact["subscription_status"] == "unsubscribed"
    assert contact["unsubscribed"] is True
    assert contact["unsubscribed_at"] == found["client"]["unsubscribed_at"]
    assert contact["unsubscribe_reason"] == "moved"
    assert is_recent(contact["created_at"])
    assert is_recent(contact["updated_at"])


async def test_it_has_whom_this_client_has_an_agreement_with(app: ASGIApp, api: Api) -> None:
    """Whatever that is; not those of another client, nor those of another audience."""
    shop = await colleague(api.workspace, client="shop", audience="courses")
    await upsert(api, "a@example.com")
    await subscribe(api, "b@example.com")
    await unsubscribe(api, "c@example.com")
    await upsert(api, "d@example.com", suppression={"hard_bounced": True, "global_unsubscribed": True})
    await subscribe(api, "e@example.com", audience="courses")
    async with colleagues(app, shop) as [other]:
        await subscribe(other, "f@example.com", client="shop")
    await unsubscribe(api, "g@example.com", ends="audience")
    assert sorted(await emails(api)) == [f"{letter}@example.com" for letter in "abcd"]
    assert await emails(api, audience="courses") == ["e@example.com"]


async def test_a_filter_by_status(api: Api) -> None:
    await upsert(api, "a@example.com", tags=["x"])
    await subscribe(api, "b@example.com", tags=["x"])
    await unsubscribe(api, "c@example.com")
    for status, wanted in (("pending", "a"), ("subscribed", "b"), (" unsubscribed ", "c")):
        assert await emails(api, subscription_status=status) == [f"{wanted}@example.com"]
    assert await emails(api, subscription_status="subscribed", tags="x") == ["b@example.com"]
    assert await emails(api, subscription_status="unsubscribed", tags="x") == []


async def test_who_unsubscribed_from_everything_is_found_by_the_status_of_the_agreement(api: Api) -> None:
    await subscribe(api)
    await unsubscribe(api, ends="global")
    assert await emails(api, subscription_status="subscribed") == ["ada@example.com"]
    assert await emails(api, subscription_status="unsubscribed") == []


async def carry(api: Api) -> None:
    await upsert(api, "both@example.com", tags=["Lead", "V.I.P.", "Café Größe"])
    await upsert(api, "lead@example.com", tags=["Lead"])
    await upsert(api, "vip@example.com", tags=["V.I.P.", "日本語"])
    await upsert(api, "none@example.com")


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("lead", ["both", "lead"]),
        ("Lead", ["both", "lead"]),
        ("lead,vip", ["both"]),
        (" V.I.P. ,, LEAD ,lead", ["both"]),
        ("Café Größe", ["both"]),
        ("日本語", ["vip"]),
        ("", ["both", "lead", "none", "vip"]),
        (" , ,", ["both", "lead", "none", "vip"]),
        ("unheard-of", []),
        ("lead,unheard-of", []),
        ("!!!", []),
        ("\x00", []),
    ],
)
async def test_a_filter_by_tags_wants_all_of_them(api: Api, tags: str, wanted: list[str]) -> None:
    """A tag that is not there means that nobody is meant."""
    await carry(api)
    before = await state_of(api.workspace)
    assert sorted(await emails(api, tags=tags)) == [f"{name}@example.com" for name in wanted]
    assert await state_of(api.workspace) == before


async def test_a_filter_means_a_name_before_a_slug(api: Api) -> None:
    """As PUT does: two tags of one vendor's slug are told apart by their names."""
    for name in ("C", "C++", "日本語", "日本语"):
        await make_tag(api, name)
    for email, tag in (("c", "C"), ("cpp", "C++"), ("ja", "日本語"), ("zh", "日本语")):
        await upsert(api, f"{email}@example.com", tags=[tag])
    for tags, wanted in (("C++", "cpp"), ("c", "c"), ("C", "c"), ("c-2", "cpp"), ("日本语", "zh"), ("日本語", "ja")):
        assert await emails(api, tags=tags) == [f"{wanted}@example.com"]


async def test_a_filter_looks_at_the_tags_of_this_audience(api: Api) -> None:
    await colleague(api.workspace, audience="courses")
    await upsert(api, "a@example.com", tags=["lead"])
    await upsert(api, "b@example.com", audience="courses", tags=["lead"])
    await upsert(api, "b@example.com", tags=["other"])
    assert await emails(api, tags="lead") == ["a@example.com"]
    assert await emails(api, tags="lead", audience="courses") == ["b@example.com"]


async def test_as_many_tags_as_a_filter_may_have(api: Api) -> None:
    names = [f"t{n}" for n in range(100)]
    await upsert(api, "a@example.com", tags=names)
    await upsert(api, "b@example.com", tags=names[1:])
    assert await emails(api, tags=",".join(names)) == ["a@example.com"]
    assert await refuse(api, "GET", "/api/contacts", **SCOPE, tags=",".join([*names, "t0"])) == {"tags": "too_many"}  # type: ignore[arg-type]


@pytest.mark.parametrize("filters", [{}, {"tags": "x"}, {"tags": "x,y"}, {"subscription_status": "pending"}], ids=str)
@pytest.mark.parametrize("by", ["cursor", "offset"])
async def test_a_walk_has_each_contact_once(api: Api, filters: Json, by: str) -> None:
    """In the order in which they were made; `offset` is the vendor's other name of `cursor`."""
    everyone = [f"c{n}@example.com" for n in range(7)]
    for email in everyone:
        await upsert(api, email, tags=["x", "y"])
    await subscribe(api, "stranger@example.com", tags=["z"])
    wanted = everyone if filters else [*everyone, "stranger@example.com"]
    for limit in (1, 3, 7, 8, 500):
        pages = await walked(api, by=by, limit=limit, **filters)
        assert [email for page in pages for email in page] == wanted
        assert len(pages) == -(-len(wanted) // limit)


async def test_what_changes_during_a_walk_moves_nothing_else(api: Api) -> None:
    for n in range(6):
        await upsert(api, f"c{n}@example.com", tags=["x"])
    first = await listed(api, limit=2, tags="x")
    await upsert(api, "c6@example.com", tags=["x"])
    [gone] = (await api.get("/contacts", params={"email": "c1@example.com"})).json()["data"]
    await api.delete(f"/contacts/{gone['id']}")
    rest = await emails(api, limit=500, tags="x", cursor=first["next_cursor"])
    assert rest == [f"c{n}@example.com" for n in (2, 3, 4, 5, 6)]


async def test_a_cursor_belongs_to_its_list(api: Api) -> None:
    for n in range(3):
        await upsert(api, f"c{n}@example.com", tags=["x"])
    await colleague(api.workspace, audience="courses")
    cursor = (await listed(api, limit=1))["next_cursor"]
    for other in ({"tags": "x"}, {"subscription_status": "pending"}, {"audience": "courses"}):
        params: Json = {**SCOPE, **other, "cursor": cursor}
        assert await refuse(api, "GET", "/api/contacts", **params) == {"cursor": "invalid"}
    assert len(await emails(api, cursor=cursor, limit=2)) == 2


async def test_a_page_has_fifty_contacts_unless_told_otherwise(api: Api) -> None:
    ids = await api.workspace.make_contacts(51)
    assert (await listed(api))["count"] == 50
    assert (await listed(api, limit="+51"))["count"] == len(ids)


async def test_a_page_with_too_many_tags_asks_for_a_smaller_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other calls answer for one contact, however many it carries."""
    monkeypatch.setattr(contact_tags, "TAGS_OF_MANY_MAX", 20)
    names = [f"t{n}" for n in range(10)]
    for n in range(3):
        await upsert(api, f"c{n}@example.com", tags=names)
    assert await refuse(api, "GET", "/api/contacts", **SCOPE) == {"limit": "out_of_range"}  # type: ignore[arg-type]
    assert (await listed(api, limit=2))["count"] == 2
    more = [f"u{n}" for n in range(25)]
    assert (await upsert(api, "c0@example.com", tags=more))["tags"] == sorted(names + more)
    assert len((await subscribe(api, "c0@example.com"))["tags"]) == 35


async def test_head_is_answered_as_get(api: Api) -> None:
    await upsert(api)
    for path in ("/api/contacts", "/api/contacts/status"):
        params = {**SCOPE, "email": "ada@example.com"}
        got, head = [await api.request(method, f"/datamailer{path}", params=params) for method in ("GET", "HEAD")]
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_what_the_list_does_not_know_is_passed_over(api: Api) -> None:
    await upsert(api)
    assert await emails(api, page="2", utm_source="mail") == ["ada@example.com"]
