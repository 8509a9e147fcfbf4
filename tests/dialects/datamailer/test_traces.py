"""The published traces of a running Datamailer: each request is answered as it was there, and does the same."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from starlette.types import ASGIApp

from app.database import Database
from app.values import slug_for_name
from tests.dialects.datamailer.calls import error, refused
from tests.dialects.datamailer.worlds import TRACES, World
from tests.routers.calls import answered

GUIDE = Path(__file__).parents[3] / "docs" / "dialects" / "datamailer.md"

# Each with the reason that the guide gives.
LEFT_OUT = {
    "put/tags empty string": '`"tags": ""` is `must_be_list`, as the published page has it, and clears nothing',
    "put/unicode name with no ASCII": "a slug is never empty: `日本語` is `ri-ben-yu`",
    "put/tags member zero width space": "a slug is never empty: it is `tag-` and eight digits made of the name",
    "put/empty-slug tag re-put other name": "a slug is never empty, so names without one are tags of their own",
    "put/clear after empty-slug": "it begins with a tag whose slug is empty, which cannot be made",
    "put/control characters in name": "control characters are left out of a stored name",
    "put/stored upper-case slug is dropped and lower-case added": "it begins with the slug `VIP`; slugs are lower-case",
    "post/chunked body": "a chunked body is read",
    "history/read of a contact after tag changes": "no messages are sent here, so there is no history",
    "related/bulk import with tags": "imports are not served; `POST /contacts/batch` is the native call",
}


@pytest.fixture(scope="module")
async def world(app: ASGIApp, database: Database) -> World:
    return await World.make(app, database)


@pytest.mark.parametrize("name", [name for name in TRACES if name not in LEFT_OUT])
async def test_a_published_trace_has_the_same_outcome(world: World, name: str) -> None:
    assert await world.differences(TRACES[name]) == []


@pytest.mark.parametrize("name", LEFT_OUT)
async def test_a_trace_that_is_left_out_would_fail(world: World, name: str) -> None:
    assert await world.differences(TRACES[name]), "this trace has the published outcome now: leave it out no longer"


def test_all_of_the_traces_are_there() -> None:
    assert len(TRACES) == 152
    assert TRACES.keys() >= LEFT_OUT.keys()


def test_the_guide_lists_what_is_left_out() -> None:
    text = GUIDE.read_text(encoding="utf-8").partition("\n## Traces left out\n")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `([^`|]+/[^`|]+)` \| (.+) \|$", text, re.MULTILINE)) == LEFT_OUT


@dataclass(frozen=True)
class Ours:
    """What comes of a trace here, where that differs on purpose."""

    status: int = 200
    # Of a refusal: the fields. Else the contact's tags.
    fields: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    # The tags of the newsletter afterwards.
    after: dict[str, str] = field(default_factory=dict)


LEAD_AND_VIP = {"lead": "Lead", "vip": "V.I.P."}
MARKS, QUESTIONS, BLANK = (slug_for_name(name) for name in ("!!!", "???", "\u200b"))

OURS = {
    "put/tags empty string": Ours(400, fields={"tags": "must_be_list"}, after=LEAD_AND_VIP),
    "put/unicode name with no ASCII": Ours(tags=["ri-ben-yu"], after={"ri-ben-yu": "日本語"}),
    "put/tags member zero width space": Ours(tags=[BLANK], after={BLANK: "\u200b"}),
    "put/empty-slug tag re-put other name": Ours(tags=[QUESTIONS], after={MARKS: "!!!", "ok": "ok", QUESTIONS: "???"}),
    "put/clear after empty-slug": Ours(tags=[], after={MARKS: "!!!", "ok": "ok"}),
    "put/control characters in name": Ours(tags=["abc"], after={"abc": "ab\u200bc"}),
    "put/stored upper-case slug is dropped and lower-case added": Ours(tags=["vip"], after={"vip": "VIP upper"}),
    "post/chunked body": Ours(tags=["x"], after={"x": "x"}),
}
NOT_SERVED = sorted(LEFT_OUT.keys() - OURS.keys())


@pytest.mark.parametrize("name", OURS)
async def test_what_differs_on_purpose_has_our_outcome(world: World, name: str) -> None:
    trace, ours = TRACES[name], OURS[name]
    await world.reset(trace)
    response = await world.send(trace)
    if ours.fields:
        assert refused(response, ours.status) == ours.fields
    else:
        assert answered(response, ours.status)["tags"] == ours.tags
    assert (await world.state())["tags"]["acme/newsletter"] == ours.after


@pytest.mark.parametrize("name", NOT_SERVED)
async def test_a_path_that_is_not_served_is_404_in_json(world: World, name: str) -> None:
    await world.reset(TRACES[name])
    assert error(await world.send(TRACES[name]), 404)["code"] == "not_found"
