"""Whatever belongs to another workspace is answered as what never was, in every place of every call that can name it.

The calls and their places are those of the five OpenAPI documents (tests/documents.py), the names those of two worlds
(tests/neighbours.py). For each place three requests are made that differ in one name: another's, one that never was,
and the caller's own, which must succeed, so that the first two are not refused for something else.
"""

import pytest
from starlette.types import ASGIApp

from app.database import Database
from app.models import Base
from tests.documents import Draft, Operation, draft_of, modes_of, operations, probes, slots_of
from tests.neighbours import (
    SECRET,
    Answer,
    Names,
    World,
    cursor_of,
    cursor_of_none,
    loosely,
    make_another,
    make_another_audience,
    make_own,
    masked,
    never,
    send,
)
from tests.routers.calls import STATE_TABLES, state_of

# Calls that name nothing.
NAMELESS = {
    "native.get_health": "tells of the process",
    "native.get_readiness": "tells of the process",
    "native.get_metrics": "tells of the process",
    "native.get_me": "tells of the key that it is called with",
    "native.list_audiences": "lists what there is of one's own",
    "native.list_events": "lists what there is of one's own, from a position in one's own feed",
    "sendportal.list_subscribers": "lists what there is of one's own",
    "sendportal.list_tags": "lists what there is of one's own",
    "sendportal.ping": "is answered without a key",
}

# What a front end of one audience finds in that one alone. New emails are not among it: a person is in the workspace
# once, so that one whom another audience knows joins, and nobody else can be given that email.
OF_AN_AUDIENCE = {
    *("tag", "tag_typeid", "tag_number", "tag_name", "tag_slug", "new_tag_name", "secondary_id"),
    *("contact", "contact_typeid", "contact_number", "email", "bulk", "bulk_typeid"),
}

# Places, or the beginnings of several, where one's own names are refused in this mode, and why.
REFUSED = {
    ("native.delete_tag ", "if_unused=True"): "the tag is in use",
    ("native.list_contacts query tags_", "audience=*"): "a filter by tags is of one audience",
}


def is_of_an_audience(operation: Operation, draft: Draft) -> bool:
    tested = {slot.kind for slot in slots_of([draft.path, draft.query, draft.headers, draft.body]) if slot.is_tested}
    return operation.front_end.one_audience and tested <= OF_AN_AUDIENCE


def is_refused(place: str, mode: str) -> bool:
    return any(place.startswith(start) and mode == of for start, of in REFUSED)


CASES = [
    *((place, "workspace") for place in probes()),
    *((place, "audience") for place, probe in probes().items() if is_of_an_audience(*probe)),
]


@pytest.fixture(scope="module")
async def stranger(database: Database) -> World:
    """Somebody else's workspace. No test changes it."""
    return await make_another(database)


@pytest.fixture(scope="module")
def nothing(stranger: World) -> Names:
    """Names of what never was, made when the stranger's were."""
    return never()


async def rows_of(own: World, another: World) -> list[tuple[str, str]]:
    """The rows of whoever must not be seen."""
    rows = await state_of(another.workspace)
    if own.workspace is not another.workspace:
        return rows
    ids = (str(another.audience_id), str(another.names["tag"]))
    return [(table, row) for table, row in rows if table != "events" and any(one in row for one in ids)]


@pytest.mark.parametrize(("place", "whose"), CASES, ids=[f"{place}, another {whose}'s" for place, whose in CASES])
async def test_anothers_is_as_one_that_never_was(
    app: ASGIApp, database: Database, stranger: World, nothing: Names, place: str, whose: str
) -> None:
    operation, basis = probes()[place]
    own, another = None, stranger
    # Whoever asks is made anew once something of its own has changed.
    for mode, draft in [("as it is", basis), *modes_of(operation, basis)]:
        if own is None:
            own = await make_own(database)
            if whose == "audience":
                another = await make_another_audience(own)
        theirs, none = another.names, nothing
        if any(slot.kind == "cursor" for slot in slots_of(draft.query)):
            cursor = await cursor_of(app, operation, draft, another)
            if cursor is None:
                assert mode != "as it is"
                continue
            theirs, none = {**theirs, "cursor": cursor}, {**none, "cursor": cursor_of_none(cursor, none)}
        mine_before, theirs_before = await state_of(own.workspace), await rows_of(own, another)

        answer = await send(app, operation, draft, own, theirs)
        assert answer.status_code < 500, mode
        assert await rows_of(own, another) == theirs_before, f"{mode}: another's rows have changed"
        told = masked(answer, draft, theirs)
        if await state_of(own.workspace) == mine_before:
            expected = masked(await send(app, operation, draft, own, none), draft, none)
            assert told == expected, mode
            assert await state_of(own.workspace) == mine_before, mode
        else:
            # It has made something. One that is as the caller was makes the same.
            assert answer.is_success, f"{mode}: it is refused, and has changed something"
            twin = await make_own(database)
            if whose == "audience":
                await make_another_audience(twin)
            expected = masked(await send(app, operation, draft, twin, none), draft, none)
            assert loosely(told, own) == loosely(expected, twin), mode
            own = None
        assert_shows_nothing(told, mode)

        if whose == "workspace" and not is_refused(place, mode):
            own = own or await make_own(database)
            if any(slot.kind == "cursor" for slot in slots_of(draft.query)):
                own.names["cursor"] = await cursor_of(app, operation, draft, own) or ""
            mine_before = await state_of(own.workspace)
            done = await send(app, operation, draft, own, own.names)
            assert done.is_success, f"{mode}: with the caller's own it is {done.status_code}: {done.text}"
            assert_shows_nothing(masked(done, draft, own.names), mode)
            if await state_of(own.workspace) != mine_before:
                own = None


def assert_shows_nothing(told: Answer, mode: str = "") -> None:
    status, headers, text = told
    assert SECRET not in f"{headers} {text}".lower(), f"{mode}: {status} {headers} {text}"


@pytest.mark.parametrize("operation", [one for one in operations() if one.method == "GET"], ids=str)
async def test_what_is_read_is_ones_own_alone(
    app: ASGIApp, database: Database, stranger: World, operation: Operation
) -> None:
    """Without anybody else's name in it, too."""
    own = await make_own(database)
    if operation.front_end.one_audience:
        await make_another_audience(own)
    answer = await send(app, operation, draft_of(operation), own, {})
    assert answer.is_success
    assert_shows_nothing(masked(answer, Draft({}), {}))
    for name in (stranger.workspace.principal.workspace, *stranger.names.values()):
        assert isinstance(name, int) or name not in answer.text


def test_every_call_is_in_the_matrix() -> None:
    probed = {str(operation) for operation, _ in probes().values()}
    there = {str(operation) for operation in operations()}
    assert not probed & NAMELESS.keys()
    missing = there - probed - NAMELESS.keys()
    assert not missing, (
        f"{missing} take nothing that tests/documents.py knows to be a name: see that its parameters stand there in "
        "KINDS, or add the call to NAMELESS with a reason."
    )
    assert there == probed | NAMELESS.keys()


def test_every_table_is_looked_at() -> None:
    """`state_of` must see whatever a call could write."""
    tables = {table for table in Base.metadata.tables if "workspace_id" in Base.metadata.tables[table].columns}
    assert tables - set(STATE_TABLES) == {"event_streams"}
