"""What must hold of the tables whatever has happened."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.database import Database, Statement
from app.repositories.doctor import DoctorRepository

_EVENTS = Statement(
    "test.events",
    """
    select sequence, type, audience_id, tag_id, contact_id, payload from events
    where workspace_id = :workspace_id order by sequence
    """,
)
_ASSIGNMENTS = Statement(
    "test.assignments", "select tag_id, contact_id from contact_tags where workspace_id = :workspace_id"
)


async def assert_sound(database: Database, workspace_id: object) -> None:
    """The doctor finds nothing, and the events, replayed in order, lead to the assignments that are there.

    The doctor looks at the whole database, which many tests may share. Only what it finds of this workspace counts, so
    that a test never fails by what another one has done to its own.
    """
    async for finding in DoctorRepository(database).examine(examples=None):
        mine = [example for example in finding.examples if example["workspace_id"] == str(workspace_id)]
        assert not mine, f"{finding.name}: {finding.what}: {mine}"
    assignments = {
        (str(row["tag_id"]), str(row["contact_id"]))
        for row in await database.fetch(_ASSIGNMENTS, workspace_id=workspace_id)
    }
    assert await replay(database, workspace_id) == assignments


async def replay(database: Database, workspace_id: object) -> set[tuple[str, str]]:
    """The assignments that the events tell of, in the order of their effects."""
    return replayed(dict(row) for row in await database.fetch(_EVENTS, workspace_id=workspace_id))


def replayed(events: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The assignments after these events. Each must change something, since what changes nothing writes none."""
    state: set[tuple[str, str]] = set()
    audience_of: dict[str, str] = {}
    for event in events:
        tag, contact, audience = str(event["tag_id"]), str(event["contact_id"]), str(event["audience_id"])
        payload = event["payload"]
        match event["type"]:
            case "tag.created":
                audience_of[tag] = audience
            case "tag.contacts_changed":
                _change(state, {(tag, c) for c in payload["added"]}, {(tag, c) for c in payload["removed"]})
            case "contact.tags_changed":
                _change(state, {(t, contact) for t in payload["added"]}, {(t, contact) for t in payload["removed"]})
            case "tag.deleted":
                state = _drop(state, payload, lambda pair, tag=tag: pair[0] == tag)
            case "contact.deleted":
                state = _drop(state, payload, lambda pair, contact=contact: pair[1] == contact)
            case "contact.left":
                state = _drop(
                    state,
                    payload,
                    lambda pair, contact=contact, audience=audience: (
                        pair[1] == contact and audience_of[pair[0]] == audience
                    ),
                )
    return state


def _change(state: set[tuple[str, str]], added: set[tuple[str, str]], removed: set[tuple[str, str]]) -> None:
    assert added or removed, "an event without a change"
    assert not added & state, "an event adds what was there"
    assert removed <= state, "an event removes what was not there"
    state -= removed
    state |= added


def _drop(state: set[tuple[str, str]], payload: dict[str, int], goes: object) -> set[tuple[str, str]]:
    kept = {pair for pair in state if not goes(pair)}  # type: ignore[operator]
    assert len(state) - len(kept) == payload["removed_count"], "a deletion that counts other rows than it took"
    return kept
