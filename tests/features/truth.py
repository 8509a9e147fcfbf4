"""The truth that acceptance tests compare answers with: what stands in the tables."""

from typing import Any

from tests.conftest import Api
from tests.databases import query
from tests.routers.calls import run

Pair = tuple[str, str]


async def rows(api: Api, sql: str, **values: object) -> list[Any]:
    """Rows of a statement about the client's workspace."""
    return await run(api.workspace.database, sql, workspace_id=api.workspace.principal.workspace_id, **values)


async def assignments(api: Api) -> set[Pair]:
    """Who carries what in the workspace: pairs of a tag's and a contact's id."""
    found = await rows(api, "select tag_id, contact_id from contact_tags where workspace_id = :workspace_id")
    return {(str(row["tag_id"]), str(row["contact_id"])) for row in found}


async def carriers_of(api: Api, tag_id: str) -> set[str]:
    """The ids of the contacts that carry a tag."""
    return {contact for tag, contact in await assignments(api) if tag == tag_id}


async def fill(url: str, api: Api, count: int) -> list[str]:
    """Ids, ascending, of so many new members of the newsletter. In one statement, since calls would take seconds.

    And on a connection of its own: one that has checked members while there were few contacts goes on reading all of
    them for each, until the server has statistics.
    """
    made = await query(
        url,
        """
        with made as (
            insert into contacts (workspace_id, id, email, email_key)
            select $1, gen_random_uuid(), email, email
            from (select 'm' || n || '@example.com' as email from generate_series(1, cast($2 as int)) n) named
            returning id
        )
        insert into audience_members (workspace_id, audience_id, contact_id)
        select a.workspace_id, a.id, made.id
        from made
        join audiences a on a.workspace_id = $1 and a.slug = 'newsletter'
        returning contact_id
        """,
        api.workspace.principal.workspace_id,
        count,
    )
    return sorted(str(contact_id) for (contact_id,) in made)
