"""What the tests of SendPortal's API have in common: where it is, a few calls, and what its refusals are like."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tests.conftest import Api
from tests.routers.calls import Json, answered

MOUNT = "/sendportal"
BASE = f"{MOUNT}/api/v1"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
# A number that nothing has.
NOBODY = 999_999_999_999


async def call(api: Api, method: str, path: str, body: object = None, /, status: int = 200, **options: Any) -> Any:
    """The `data` of an answer; None where it has no body."""
    answer = answered(await api.request(method, BASE + path, json=body, **options), status)
    return answer and answer["data"]


async def make_tag(api: Api, name: str) -> int:
    made: Json = await call(api, "POST", "/tags", {"name": name}, status=201)
    return int(made["id"])


async def make_tags(api: Api, *names: str) -> list[int]:
    return [await make_tag(api, name) for name in names]


async def make_subscriber(api: Api, email: str, **fields: Any) -> int:
    made: Json = await call(api, "POST", "/subscribers", {"email": email, **fields}, status=201)
    return int(made["id"])


async def make_subscribers(api: Api, count: int) -> list[int]:
    return [await make_subscriber(api, f"s{number}@example.com") for number in range(count)]


async def tags_of(api: Api, subscriber: int) -> list[int]:
    return ids_of(await call(api, "GET", f"/subscribers/{subscriber}/tags"))


async def subscribers_of(api: Api, tag: int) -> list[int]:
    return ids_of(await call(api, "GET", f"/tags/{tag}/subscribers"))


async def end_of_feed(api: Api) -> int:
    """Where the events are that come next."""
    return int(answered(await api.get("/events", params={"limit": 1000}))["pagination"]["next_cursor"])


async def events_after(api: Api, after: int) -> list[Json]:
    return list(answered(await api.get("/events", params={"after": after, "limit": 1000}))["data"])


def ids_of(items: Sequence[Mapping[str, Any]]) -> list[int]:
    return [item["id"] for item in items]


def refused(response: httpx.Response, **errors: list[str]) -> None:
    """A refusal of fields, with these texts for each and no others; `__` in a name stands for a dot."""
    wanted = {name.replace("__", "."): texts for name, texts in errors.items()}
    texts = [text for field in wanted.values() for text in field]
    more = len(texts) - 1
    counted = f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
    assert answered(response, 422) == {"message": texts[0] + counted, "errors": wanted}
    assert response.headers["content-type"] == "application/json"


def is_refusal(response: httpx.Response) -> bool:
    """Whether an answer that refuses has the vendor's form, whatever was wrong."""
    if response.headers["content-type"] != "application/json":
        return False
    document: Json = response.json()
    if not isinstance(document["message"], str) or not document["message"]:
        return False
    if response.status_code != 422:
        return document.keys() == {"message"}
    texts = [text for field in document["errors"].values() for text in field]
    return document.keys() == {"message", "errors"} and str(document["message"]).startswith(texts[0])


def missing(response: httpx.Response, what: str, number: object) -> None:
    """The answer to a path with an id that is not there."""
    assert answered(response, 404) == {"message": f"No query results for {what} {number}"}
