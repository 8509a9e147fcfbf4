"""The feed of changes, as its readers follow it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest

from app.database import Database, Statement, create_engine, statement_log
from app.errors import InvalidCursor
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.events import STEP, Event, EventRepository
from app.repositories.tags import TagRepository
from tests.conftest import MakeDatabase, Workspace, make_workspace
from tests.repositories.crowd import Crowd
from tests.repositories.invariants import replayed

WRITERS = 16

ASSIGNMENTS = Statement(
    "test.assignments", "select tag_id, contact_id from contact_tags where workspace_id = :workspace_id"
)
STREAM = Statement("test.stream", "select last_position from event_streams where workspace_id = :workspace_id")
UNNUMBERED = Statement(
    "test.unnumbered", "select count(*) as n from events where workspace_id = :workspace_id and position is null"
)

MANY = Statement(
    "test.many_events",
    """
    insert into events (workspace_id, type, front_end, request_id, payload)
    select :workspace_id, 'audience.updated', 'test', 'test', '{}' from generate_series(1, cast(:wanted as int))
    """,
)


@pytest.fixture
async def arena(new_database: MakeDatabase) -> AsyncIterator[Workspace]:
    """A workspace with a database for itself, and connections for all writers and readers."""
    database = Database(create_engine(await new_database(), pool_size=WRITERS + 4))
    yield await make_workspace(database)
    await database.dispose()


async def follow(feed: EventRepository, *, limit: int, until: asyncio.Event, after: int = 0) -> list[Event]:
    """All events from a cursor on, read while they are made, up to the end when nobody makes any more."""
    seen: list[Event] = []
    while True:
        is_last_round = until.is_set()
        page = await feed.list(after=after, limit=limit)
        assert len(page.events) <= limit
        seen += page.events
        assert page.next_position == (page.events[-1].position if page.events else after)
        after = page.next_position
        if not page.has_more:
            if is_last_round:
                return seen
            await asyncio.sleep(0)


async def test_a_replay_under_sixteen_writers_ends_with_the_table(arena: Workspace) -> None:
    feed, done = arena.repository(EventRepository), asyncio.Event()
    crowd = await Crowd.of(arena)

    # Three readers of different pace number the events between them.
    following = [asyncio.create_task(follow(feed, limit=limit, until=done)) for limit in (1, 7, 1000)]
    await asyncio.gather(*(crowd.work(60) for _ in range(WRITERS)))
    done.set()
    readers = await asyncio.gather(*following)
    for seen in readers:
        assert [event.position for event in seen] == list(range(1, len(seen) + 1))
        assert seen == readers[0]
    rows = await arena.database.fetch(ASSIGNMENTS, workspace_id=arena.principal.workspace_id)
    assert replayed(asdict(event) for event in readers[0]) == {
        (str(row["tag_id"]), str(row["contact_id"])) for row in rows
    }
    assert len(readers[0]) > 500
    # All of it again, by one who comes later.
    assert await follow(feed, limit=100, until=done) == readers[0]


async def test_an_event_that_is_committed_late_is_not_skipped(arena: Workspace) -> None:
    """Its number was drawn first. A reader that took numbers for positions would be past it."""
    feed, tags = arena.repository(EventRepository), arena.repository(TagRepository)
    await arena.repository(EventRepository).list(after=0, limit=100)
    drawn, go_on = asyncio.Event(), asyncio.Event()

    async def slow(connection: Any) -> None:
        locked = await tags.lock_audience(connection, None)
        await tags.find_or_create(connection, locked, [{"name": "slow"}])
        drawn.set()
        await go_on.wait()

    slow_one = asyncio.create_task(arena.database.transaction(slow))
    await drawn.wait()
    await arena.make_contacts(1)
    before = await feed.list(after=0, limit=100)
    assert [event.type for event in before.events] == ["audience.created", "contact.created", "contact.joined"]
    assert not before.has_more
    go_on.set()
    await slow_one
    late = await feed.list(after=before.next_position, limit=100)
    assert [(event.type, event.position) for event in late.events] == [("tag.created", before.next_position + 1)]


async def test_the_cursor_is_there_at_the_end_and_goes_on_from_there(workspace: Workspace) -> None:
    feed = workspace.repository(EventRepository)
    first = await feed.list(after=0, limit=100)
    again = await feed.list(after=first.next_position, limit=100)
    assert (again.events, again.next_position, again.has_more) == ([], first.next_position, False)
    await workspace.repository(TagRepository).create({"name": "VIP"})
    [event] = (await feed.list(after=again.next_position, limit=100)).events
    assert (event.type, event.position) == ("tag.created", first.next_position + 1)


async def test_more_than_one_call_numbers_or_looks_at(workspace: Workspace) -> None:
    """The first reader of a long feed gets on in steps, and so does one of a rare type."""
    feed, scope = workspace.repository(EventRepository), {"workspace_id": workspace.principal.workspace_id}
    few = (await feed.list(after=0, limit=100)).next_position
    await workspace.database.fetch(MANY, **scope, wanted=2 * STEP + 10)
    await workspace.repository(TagRepository).create({"name": "the last one"})
    end = few + 2 * STEP + 11
    answers = []
    page = await feed.list(after=0, limit=10, types=["tag.created"])
    while page.has_more:
        answers.append((len(page.events), page.next_position))
        page = await feed.list(after=page.next_position, limit=10, types=["tag.created"])
    assert answers == [(0, STEP), (0, 2 * STEP)]
    assert [event.position for event in page.events] == [page.next_position] == [end]
    page, seen = await feed.list(after=0, limit=1000), []
    while page.events:
        seen += [event.position for event in page.events]
        page = await feed.list(after=page.next_position, limit=1000)
    assert seen == list(range(1, end + 1))


async def test_types_leave_out_others_and_their_positions_are_passed(workspace: Workspace) -> None:
    tags, feed = workspace.repository(TagRepository), workspace.repository(EventRepository)
    [contact] = await workspace.make_contacts(1)
    await tags.create_many([{"name": f"{n}"} for n in range(5)])
    await workspace.repository(ContactTagRepository).change(TagChange(contact, add=[TagRef.by_name("1", ())]))
    everything = await feed.list(after=0, limit=100)
    some = await feed.list(after=0, limit=100, types=["tag.created", "contact.joined"])
    assert [event.type for event in some.events] == ["contact.joined", *["tag.created"] * 5]
    assert some.next_position == everything.next_position
    assert not some.has_more
    first = await feed.list(after=0, limit=3, types=["tag.created"])
    assert (len(first.events), first.has_more) == (3, True)
    rest = await feed.list(after=first.next_position, limit=3, types=["tag.created"])
    assert [*first.events, *rest.events] == some.events[1:]
    none = await feed.list(after=0, limit=1, types=["tag.deleted"])
    assert (none.events, none.next_position, none.has_more) == ([], everything.next_position, False)


async def test_a_cursor_that_the_feed_has_not_reached_is_refused(workspace: Workspace) -> None:
    feed = workspace.repository(EventRepository)
    end = (await feed.list(after=0, limit=1000)).next_position
    await workspace.repository(TagRepository).create({"name": "not numbered yet"})
    with pytest.raises(InvalidCursor, match=f"position {end}"):
        await feed.list(after=end + 1, limit=1)


async def test_a_reader_who_is_behind_numbers_nothing_and_locks_nothing(workspace: Workspace) -> None:
    tags, feed = workspace.repository(TagRepository), workspace.repository(EventRepository)
    await tags.create_many([{"name": f"{n}"} for n in range(5)])
    await feed.list(after=0, limit=100)
    await tags.create({"name": "new"})
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        await feed.list(after=0, limit=3)
        assert ran == ["events.read"]
        page = await feed.list(after=0, limit=100)
        assert ran[1:] == ["events.read", "events.lock_stream", "events.number", "events.read"]
        await feed.list(after=page.next_position, limit=100)
        assert ran[5:] == ["events.read"]
    finally:
        statement_log.reset(token)
    scope = {"workspace_id": workspace.principal.workspace_id}
    assert (await workspace.database.fetch_one(UNNUMBERED, **scope))["n"] == 0
    assert (await workspace.database.fetch_one(STREAM, **scope))["last_position"] == page.next_position
