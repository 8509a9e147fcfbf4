"""Requests that are done once: what the repository promises to whoever hands it a verb."""

from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest

from app.database import Connection, ConstraintViolation, Database, Statement
from app.errors import IdempotencyKeyReused, NotFound
from app.repositories.idempotency import Answer, IdempotencyRepository
from app.repositories.tags import TagRepository
from tests.conftest import Workspace
from tests.routers.calls import run

DONE = Answer(201, b"{}", "/x", '"1"')


async def names_of(workspace: Workspace) -> set[str]:
    rows = await run(
        workspace.database,
        "select name from tags where workspace_id = :workspace_id",
        workspace_id=workspace.principal.workspace_id,
    )
    return {row["name"] for row in rows}


def verb_that_makes(
    workspace: Workspace, name: str, error: Exception | None = None
) -> Callable[[Database], Awaitable[Answer]]:
    async def verb(joined: Database) -> Answer:
        await (
            Workspace(joined, workspace.provisioned, workspace.principal)
            .repository(TagRepository)
            .create({"name": name})
        )
        if error:
            raise error
        return DONE

    return verb


async def test_a_verb_is_run_once(workspace: Workspace) -> None:
    once = workspace.repository(IdempotencyRepository).once
    assert await once("k", b"f", verb_that_makes(workspace, "a")) is None
    assert await once("k", b"f", verb_that_makes(workspace, "b")) == DONE
    with pytest.raises(IdempotencyKeyReused):
        await once("k", b"g", verb_that_makes(workspace, "c"))
    assert await names_of(workspace) == {"a"}


async def test_what_raises_leaves_nothing(workspace: Workspace) -> None:
    once = workspace.repository(IdempotencyRepository).once
    with pytest.raises(NotFound):
        await once("k", b"f", verb_that_makes(workspace, "b", error=NotFound("tag", 1)))
    assert await names_of(workspace) == set()
    assert await once("k", b"g", verb_that_makes(workspace, "c")) is None
    assert await names_of(workspace) == {"c"}


async def test_a_unit_that_raises_takes_back_its_own_part(workspace: Workspace) -> None:
    """Also where the database refused it, so that what follows is not lost with it."""
    fails = Statement("test.fails", "insert into workspaces (id, slug, name) select id, slug, name from workspaces")

    async def raises(_: Connection) -> None:
        raise NotFound("tag", 1)

    async def verb(joined: Database) -> Answer:
        tags = Workspace(joined, workspace.provisioned, workspace.principal).repository(TagRepository)
        await tags.create({"name": "before"})
        with pytest.raises(ConstraintViolation):
            await joined.fetch(fails)
        with pytest.raises(NotFound):
            await joined.transaction(raises)
        await tags.create({"name": "after"})
        return DONE

    assert await workspace.repository(IdempotencyRepository).once(uuid4().hex, b"", verb) is None
    assert await names_of(workspace) == {"before", "after"}
