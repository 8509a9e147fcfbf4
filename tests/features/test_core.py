"""Acceptance tests of the core: what TopMail, Buttondown, SendPortal and Datamailer have between them.

A test a row of docs/features.md; its docstring is the criterion. What a call does beyond that is tested in
tests/routers.
"""

import base64
from typing import Any

from starlette.types import ASGIApp

from app.database import Database
from app.errors import FIELD_CODES
from app.values import hash_key
from tests.conftest import Api, client_of, make_workspace
from tests.features.refusals import REFUSALS, refuse
from tests.features.truth import assignments, carriers_of, fill, rows
from tests.routers.calls import (
    RANDOM_ID,
    Json,
    answered,
    call,
    carriers,
    field_problem,
    ids_of,
    make_audience,
    make_contacts,
    make_outsider,
    make_tag,
    make_tags,
    problem,
    slugs_of,
    state_of,
    walk,
)

LISTS = ("/tags", "/tags/{tag}/contacts")


async def test_c1_create_with_defaults(api: Api) -> None:
    """A name alone makes a tag with the color #6366f1, no description and no contacts, and `Location` leads to it."""
    response = await api.post("/tags", json={"name": "VIP"})
    tag = answered(response, 201)
    assert {"name": "VIP", "color": "#6366f1", "description": None, "contact_count": 0}.items() <= tag.items()
    assert await call(api, "GET", response.headers["location"]) == tag


async def test_c2_colors(api: Api) -> None:
    """#RGB and #RRGGBB are taken and stored as #RRGGBB; what is neither is refused, and the field is named."""
    tag = await make_tag(api, "VIP", color="#fff")
    assert tag["color"] == "#ffffff"
    assert (await call(api, "PATCH", f"/tags/{tag['id']}", {"color": "#1A2b3C"}))["color"] == "#1A2b3C"
    for color in ("red", "#12345", "#ggg"):
        field_problem(await api.post("/tags", json={"name": "new", "color": color}), "#/color", "invalid_value")


async def test_c3_field_limits(api: Api) -> None:
    """A name has 1-120 characters that are not all blank, a description at most 1,000; symbols alone are a name."""
    longest = await make_tag(api, "x" * 120, description="d" * 1_000)
    assert (longest["name"], longest["description"]) == ("x" * 120, "d" * 1_000)
    assert (await make_tag(api, "+++"))["slug"]
    for field, value, code in [
        ("name", "x" * 121, "too_long"),
        ("name", "", "too_short"),
        ("name", " \t", "too_short"),
        ("description", "d" * 1_001, "too_long"),
    ]:
        field_problem(await api.post("/tags", json={"name": "new", field: value}), f"#/{field}", code)


async def test_c4_patch_changes_only_what_is_given(api: Api) -> None:
    """PATCH leaves alone what it is not given, null clears a description, {} changes nothing, a name is never null."""
    tag = await make_tag(api, "VIP", description="d")
    path = f"/tags/{tag['id']}"
    recolored = await call(api, "PATCH", path, {"color": "#000000"})
    assert recolored == {**tag, "color": "#000000", "version": 2, "updated_at": recolored["updated_at"]}
    cleared = await call(api, "PATCH", path, {"description": None})
    assert cleared == {**recolored, "description": None, "version": 3, "updated_at": cleared["updated_at"]}
    assert await call(api, "PATCH", path, {}) == cleared
    field_problem(await api.patch(path, json={"name": None}), "#/name", "invalid_type")


async def test_c5_get_one(api: Api, other_api: Api) -> None:
    """One's own tag is shown; another workspace's, a malformed and a random id are all 404."""
    tag, others = await make_tag(api, "VIP"), await make_tag(other_api, "VIP")
    assert await call(api, "GET", f"/tags/{tag['id']}") == tag
    for no_tag in (others["id"], "nonsense", RANDOM_ID):
        problem(await api.get(f"/tags/{no_tag}"), 404, "not_found")


async def test_c6_delete_drops_assignments(api: Api) -> None:
    """A deleted tag is 404, no contact carries it any more, and the contacts are as they were."""
    contacts = await make_contacts(api, 3)
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    await make_tag(api, "other", contact_ids=contacts)
    before = await call(api, "GET", "/contacts")
    await call(api, "DELETE", f"/tags/{tag['id']}", status=204)
    problem(await api.get(f"/tags/{tag['id']}"), 404, "not_found")
    assert [await slugs_of(api, contact) for contact in contacts] == [["other"]] * 3
    assert await carriers_of(api, tag["id"]) == set()
    assert await call(api, "GET", "/contacts") == before


async def test_c7_list_search_and_counts(api: Api) -> None:
    """A search finds part of a name in any case and takes % and _ literally; every count is that of the table."""
    contacts = await make_contacts(api, 5)
    for place, name in enumerate(["vip", "My VIP", "50% off", "snake_case", "none"]):
        await make_tag(api, name, contact_ids=contacts[place:])
    for search, names in [("VI", ["My VIP", "vip"]), ("%", ["50% off"]), ("_", ["snake_case"]), ("x", [])]:
        listed = await call(api, "GET", "/tags", search=search)
        assert [tag["name"] for tag in listed["data"]] == names
    counted = await rows(
        api, "select tag_id, count(*) as n from contact_tags where workspace_id = :workspace_id group by tag_id"
    )
    listed = await call(api, "GET", "/tags")
    assert {tag["id"]: tag["contact_count"] for tag in listed["data"]} == {
        str(row["tag_id"]): row["n"] for row in counted
    }


async def test_c8_limit_and_offset(api: Api) -> None:
    """A limit is 1-1,000; a walk by offset shows each tag exactly once, and `total` says how many there are."""
    tags = await make_tags(api, *(f"t{n}" for n in range(23)))
    seen: list[str] = []
    while len(seen) < 23:
        page = await call(api, "GET", "/tags", limit=5, offset=len(seen))
        assert page["pagination"]["total"] == 23
        seen += ids_of(page["data"])
    assert sorted(seen) == sorted(ids_of(tags))
    assert len((await call(api, "GET", "/tags", limit=1_000))["data"]) == 23
    for limit in (0, 1_001, -1):
        field_problem(await api.get("/tags", params={"limit": limit}), "?limit", "out_of_range")


async def test_c9_ids_and_links(api: Api) -> None:
    """`ids` leaves exactly these tags; `Link: rel="next"` is on every page but the last."""
    tags = await make_tags(api, *"abcde")
    wanted = [tags[1], tags[3]]
    assert (await call(api, "GET", "/tags", ids=ids_of(wanted)))["data"] == wanted
    # The walk goes from link to link, and checks that the last page has none.
    assert [ids_of(page) for page in await walk(api, "/tags", limit=2)] == [
        ids_of(tags[:2]),
        ids_of(tags[2:4]),
        ids_of(tags[4:]),
    ]


async def test_c10_the_contacts_of_a_tag_are_paged(api: Api) -> None:
    """A tag's contacts come in pages of 1-1,000, in an order that stays, each of them once."""
    contacts = await make_contacts(api, 23)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:20])
    path = f"/tags/{tag['id']}/contacts"
    whole = await call(api, "GET", path, limit=1_000)
    assert {contact["id"] for contact in whole["data"]} == await carriers_of(api, tag["id"])
    for _ in range(2):
        pages = [await call(api, "GET", path, limit=6, offset=offset) for offset in range(0, 20, 6)]
        assert [contact for page in pages for contact in page["data"]] == whole["data"]
        assert {page["pagination"]["total"] for page in pages} == {20}
    for limit in (0, 1_001, -1):
        field_problem(await api.get(path, params={"limit": limit}), "?limit", "out_of_range")


async def test_c11_bulk_assign(api: Api, database_url: str) -> None:
    """One call gives a tag to 1-10,000 contacts; the same call again answers 200 and changes nothing."""
    contacts = await fill(database_url, api, 10_000)
    tag = await make_tag(api, "VIP")
    path = f"/tags/{tag['id']}/contacts"
    assert (await call(api, "POST", path, {"contact_ids": contacts}))["added"] == 10_000
    assert await carriers_of(api, tag["id"]) == set(contacts)
    before = await state_of(api.workspace)
    again = await call(api, "POST", path, {"contact_ids": contacts})
    assert (again["added"], again["already_assigned"], again["contact_count"]) == (0, 10_000, 10_000)
    assert await state_of(api.workspace) == before
    field_problem(await api.post(path, json={"contact_ids": [*contacts, RANDOM_ID]}), "#/contact_ids", "too_long")
    field_problem(await api.post(path, json={"contact_ids": []}), "#/contact_ids", "too_short")


async def test_c12_bulk_unassign(api: Api, database_url: str) -> None:
    """DELETE with a body takes a tag from 1-10,000 contacts; who does not carry it, or does not exist, is no error."""
    contacts = await fill(database_url, api, 10_000)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:9_000])
    path = f"/tags/{tag['id']}/contacts"
    named = [*contacts[100:], *[RANDOM_ID] * 100]
    done = await call(api, "DELETE", path, {"contact_ids": named})
    assert (done["removed"], done["not_assigned"], done["not_found"]) == (8_900, 1_000, [RANDOM_ID])
    assert await carriers_of(api, tag["id"]) == set(contacts[:100])
    for refused, code in ([*named, RANDOM_ID], "too_long"), ([], "too_short"):
        field_problem(await api.request("DELETE", path, json={"contact_ids": refused}), "#/contact_ids", code)


async def test_c13_replace_a_tags_contacts(api: Api) -> None:
    """After PUT the tag's contacts are exactly those given, [] clears them, and other tags are untouched."""
    contacts = await make_contacts(api, 5)
    tag = await make_tag(api, "VIP", contact_ids=contacts[:3])
    other = await make_tag(api, "other", contact_ids=contacts)
    for given in (contacts[2:], contacts[:1], []):
        await call(api, "PUT", f"/tags/{tag['id']}/contacts", {"contact_ids": given})
        assert await carriers(api, tag["id"]) == sorted(given)
        assert await carriers_of(api, tag["id"]) == set(given)
        assert await carriers_of(api, other["id"]) == set(contacts)


async def test_c14_create_with_contacts(api: Api) -> None:
    """A tag is made together with its contacts, or, if one of them is missing, neither."""
    contacts = await make_contacts(api, 3)
    before = await state_of(api.workspace)
    response = await api.post("/tags", json={"name": "VIP", "contact_ids": [*contacts, RANDOM_ID]})
    field_problem(response, "#/contact_ids/3", "unknown_ids")
    assert await state_of(api.workspace) == before
    tag = await make_tag(api, "VIP", contact_ids=contacts)
    assert tag["contact_count"] == 3
    assert await carriers_of(api, tag["id"]) == set(contacts)


async def test_c15_the_tags_of_a_contact(api: Api) -> None:
    """POST adds without removing, PUT makes the list, DELETE removes; each answers with the whole list after it."""
    [contact] = await make_contacts(api, 1)
    for method, tags, after in [
        ("POST", ["a", "b"], ["a", "b"]),
        ("POST", ["c"], ["a", "b", "c"]),
        ("PUT", ["b", "d"], ["b", "d"]),
        ("DELETE", ["d", "a"], ["b"]),
        ("PUT", [], []),
    ]:
        answer = await call(api, method, f"/contacts/{contact}/tags", {"tags": tags})
        assert [tag["slug"] for tag in answer["data"]] == after
        assert answer["data"] == (await call(api, "GET", f"/contacts/{contact}/tags"))["data"]


async def test_c16_names_make_tags(api: Api) -> None:
    """PUT by names makes the tags that are missing, once, and answers in the order of slugs."""
    first, second = await make_contacts(api, 2)
    vip = await make_tag(api, "VIP")
    answer = await call(api, "PUT", f"/contacts/{first}/tags", {"tags": ["VIP", "New", "vip", "Another"]})
    assert [tag["slug"] for tag in answer["data"]] == ["another", "new", "vip"]
    assert answer["data"][2]["id"] == vip["id"]
    again = await call(api, "PUT", f"/contacts/{second}/tags", {"tags": ["new", "ANOTHER"]})
    assert ids_of(again["data"]) == ids_of(answer["data"][:2])
    names = await rows(api, "select name from tags where workspace_id = :workspace_id order by name")
    assert [row["name"] for row in names] == ["Another", "New", "VIP"]


async def test_c17_one_tag_by_slug(api: Api) -> None:
    """PUT and DELETE of one slug answer 200 twice in a row; what no slug can be made of is 422."""
    [contact] = await make_contacts(api, 1)
    path = f"/contacts/{contact}/tags"
    for _ in range(2):
        assert [tag["slug"] for tag in (await call(api, "PUT", f"{path}/vip"))["data"]] == ["vip"]
    for _ in range(2):
        assert (await call(api, "DELETE", f"{path}/vip"))["data"] == []
    for method in ("PUT", "DELETE"):
        field_problem(await api.request(method, f"{path}/%F0%9F%8E%89"), "path:slug", "invalid_slug")


async def test_c18_audiences_are_namespaces(api: Api) -> None:
    """One slug in two audiences is two tags, and replacing a contact's tags in one leaves the other's alone."""
    [contact] = await make_contacts(api, 1)
    await make_audience(api, "courses", contact)
    here, there = await make_tag(api, "VIP"), await make_tag(api, "VIP", audience="courses")
    assert here["slug"] == there["slug"] == "vip"
    assert here["id"] != there["id"]
    for audience in ("newsletter", "courses"):
        await call(api, "PUT", f"/contacts/{contact}/tags", {"tags": ["VIP", "x"]}, audience=audience)
    await call(api, "PUT", f"/contacts/{contact}/tags", {"tags": []}, audience="newsletter")
    assert await slugs_of(api, contact, "newsletter") == []
    assert await slugs_of(api, contact, "courses") == ["vip", "x"]


async def test_c19_only_members_carry_tags(api: Api, other_api: Api) -> None:
    """A contact that is not in the audience, or is another workspace's, is 404, and carries nothing."""
    outsider = await make_outsider(api)
    [others] = await make_contacts(other_api, 1)
    tag = await make_tag(api, "VIP")
    for contact in (outsider, others):
        problem(await api.put(f"/contacts/{contact}/tags", json={"tags": ["VIP"]}), 404, "not_found")
        problem(await api.put(f"/contacts/{contact}/tags/vip"), 404, "not_found")
    response = await api.post(f"/tags/{tag['id']}/contacts", json={"contact_ids": [outsider]})
    field_problem(response, "#/contact_ids/0", "not_members")
    assert await assignments(api) == await assignments(other_api) == set()


async def test_c20_error_codes(api: Api, other_api: Api) -> None:
    """Every mistake has its status, its stable code and the place of the value; nothing is changed by any."""
    answers = await refuse(api, other_api)
    expected = {case.name: (case.status, case.code, list(case.pointers)) for case in REFUSALS}
    assert {
        name: (
            answer.status_code,
            answer.json()["code"],
            [error["pointer"] for error in answer.json().get("errors", [])],
        )
        for name, answer in answers.items()
    } == expected
    # Each code of a field that is documented is met.
    assert {case.code for case in REFUSALS} >= set(FIELD_CODES)


async def test_c21_keys_are_hashed(api: Api) -> None:
    """What the database holds of a key is of no use: neither the key nor any value stored beside it lets anybody in."""
    key = api.workspace.provisioned.key
    tables = await rows(
        api,
        """
        select t.table_name from information_schema.columns t
        where t.table_schema = 'public' and t.column_name = 'workspace_id' and cast(:workspace_id as uuid) is not null
        """,
    )
    dump = ""
    for table in tables:
        lines = await rows(
            api,
            f"select cast(to_jsonb(t) as text) as line from {table['table_name']} t "
            "where t.workspace_id = :workspace_id",
        )
        dump += "".join(row["line"] for row in lines)
    assert hash_key(key).hex() in dump
    for secret in (key, key.removeprefix("ptag_")):
        for form in (secret, secret.encode().hex(), base64.b64encode(secret.encode()).decode()):
            assert form not in dump
    [row] = await rows(api, "select to_jsonb(k) as key from api_keys k where k.workspace_id = :workspace_id")
    for value in row["key"].values():
        problem(await api.get("/me", headers={"Authorization": f"Bearer {value}"}), 401, "unauthenticated")


async def test_c21_a_revoked_key_is_dead_at_once(api: Api) -> None:
    """A workspace has several keys; one that is revoked over HTTP is refused at once, and the others still work."""
    made = [await call(api, "POST", "/keys", {"scopes": ["tags:read"]}, status=201) for _ in range(2)]
    clients = [{"Authorization": f"Bearer {one['key']}"} for one in made]
    for headers in clients:
        answered(await api.get("/tags", headers=headers))
    await call(api, "DELETE", f"/keys/{made[0]['id']}", status=204)
    problem(await api.get("/tags", headers=clients[0]), 401, "unauthenticated")
    answered(await api.get("/tags", headers=clients[1]))
    answered(await api.get("/tags"))


async def test_c22_scopes(app: ASGIApp, database: Database) -> None:
    """A key reads and writes what its scopes name, tags and contacts apart; all else is 403, and changes nothing."""
    calls: list[tuple[str, str, Json | None, str]] = [
        ("GET", "/tags", None, "tags:read"),
        ("POST", "/tags", {"name": "new"}, "tags:write"),
        ("DELETE", f"/tags/{RANDOM_ID}", None, "tags:write"),
        ("GET", "/contacts", None, "contacts:read"),
        ("POST", "/contacts", {"email": "new@example.com"}, "contacts:write"),
        ("DELETE", f"/contacts/{RANDOM_ID}", None, "contacts:write"),
        ("POST", "/audiences", {"name": "new"}, "admin"),
    ]
    for scope in ("tags:read", "tags:write", "contacts:read", "contacts:write"):
        async with client_of(app, await make_workspace(database, scopes=(scope,))) as api:
            for method, path, body, needed in calls:
                before = await state_of(api.workspace)
                response = await api.request(method, path, json=body)
                if needed == scope:
                    assert response.is_success or response.status_code == 404
                else:
                    assert problem(response, 403, "insufficient_scope")["missing_scopes"] == [needed]
                    assert await state_of(api.workspace) == before


async def test_c23_more_fields(api: Api) -> None:
    """`secondary_id`, `public_description` and `subscriber_editable` come back as sent; an id is 1 to 10^9."""
    tag = await make_tag(api, "VIP", public_description="For you", subscriber_editable=True)
    path = f"/tags/{tag['id']}"
    for secondary_id in (1, 1_000_000_000):
        changed = await call(api, "PATCH", path, {"secondary_id": secondary_id})
        assert changed == await call(api, "GET", path)
        assert changed["secondary_id"] == secondary_id
        assert (changed["public_description"], changed["subscriber_editable"]) == ("For you", True)
    for secondary_id in (0, 1_000_000_001):
        field_problem(await api.patch(path, json={"secondary_id": secondary_id}), "#/secondary_id", "out_of_range")


async def test_c24_a_name_that_is_taken(api: Api) -> None:
    """A taken name is 409 with the id of the tag that has it; `on_conflict=update` answers 200 and changes that tag."""
    tag = await make_tag(api, "VIP", color="#111111", description="stays")
    sent = {"name": "vip", "color": "#222222"}
    assert problem(await api.post("/tags", json=sent), 409, "name_taken")["existing_id"] == tag["id"]
    assert await call(api, "GET", f"/tags/{tag['id']}") == tag
    updated = await call(api, "POST", "/tags", sent, on_conflict="update")
    assert updated == {**tag, **sent, "version": 2, "updated_at": updated["updated_at"]}


async def test_c31_a_target_set(api: Api) -> None:
    """Contacts with these tags and without those are exactly those that SQL finds."""
    contacts = await make_contacts(api, 16)
    # Every combination of four tags.
    tags = {
        name: await make_tag(api, name, contact_ids=[one for place, one in enumerate(contacts) if place >> bit & 1])
        for bit, name in enumerate("abcd")
    }
    carried = """
        exists (
            select from contact_tags ct
            where ct.workspace_id = :workspace_id and ct.contact_id = m.contact_id and ct.tag_id = :{}
        )
    """
    a, b, c, d = (carried.format(name) for name in "abcd")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tags_all": ["a", "b"], "tags_none": ["c"]}, f"{a} and {b} and not {c}"),
        ({"tags_any": ["a", "b"], "tags_none": ["c", "d"]}, f"({a} or {b}) and not {c} and not {d}"),
        ({"tags_all": ["a"], "tags_any": ["b", "c"], "tags_none": ["d"]}, f"{a} and ({b} or {c}) and not {d}"),
        ({"tags_none": ["a", "b", "c", "d"]}, f"not {a} and not {b} and not {c} and not {d}"),
    ]
    for query, condition in cases:
        found = await rows(
            api,
            f"select m.contact_id from audience_members m where m.workspace_id = :workspace_id and {condition}",
            **{name: tag["id"] for name, tag in tags.items() if f":{name}" in condition},
        )
        truth = sorted(str(row["contact_id"]) for row in found)
        assert ids_of((await call(api, "GET", "/contacts", limit=1_000, **query))["data"]) == truth
        assert ids_of([one for page in await walk(api, "/contacts", limit=3, **query) for one in page]) == truth
    response = await api.get("/contacts", params={"tags_all": "a", "tags_none": "typo"})
    [error] = problem(response, 422, "unknown_tag")["errors"]
    assert error["pointer"].startswith("?tags_none")
