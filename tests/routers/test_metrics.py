"""What a scrape tells of calls: by route, never by who called or what for."""

import socket
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.types import ASGIApp

from app.config import Settings
from app.database import statement_log
from tests.conftest import Api, started
from tests.routers.calls import answered, call, make_contacts, make_tag, problem
from tests.series import Series, parse, total, value

NATIVE = {"front_end": "native"}


async def scrape(client: httpx.AsyncClient) -> Series:
    response = await client.get("/metrics")
    assert response.status_code == 200
    return parse(response.text)


class Difference:
    """How much each series grew from one scrape to another: others count in this process, too."""

    def __init__(self, before: Series, after: Series) -> None:
        self._before, self._after = before, after

    def __call__(self, name: str, /, **labels: str) -> float:
        return value(self._after, name, **labels) - value(self._before, name, **labels)


async def test_calls_are_counted_by_route(api: Api) -> None:
    contacts = await make_contacts(api, 3)
    await make_tag(api, "VIP")
    before = await scrape(api)
    for contact in contacts:
        await call(api, "PUT", f"/contacts/{contact}/tags/vip")
        await call(api, "GET", f"/contacts/{contact}/tags")
    await api.head(f"/contacts/{contacts[0]}/tags")
    problem(await api.get(f"/contacts/{uuid4()}/tags"), 404, "not_found")
    grew = Difference(before, await scrape(api))
    put = NATIVE | {"method": "PUT", "route": "/contacts/{contact_id}/tags/{slug}"}
    get = NATIVE | {"method": "GET", "route": "/contacts/{contact_id}/tags"}
    assert grew("http_requests_total", **put, status="200") == 3
    assert grew("http_requests_total", **get, status="200") == 3
    assert grew("http_requests_total", **get, status="404") == 1
    assert grew("http_requests_total", **(get | {"method": "HEAD"}), status="200") == 1
    for labels, count in ((put, 3), (get, 4)):
        assert grew("http_request_duration_seconds_count", **labels) == count
        assert grew("http_request_duration_seconds_bucket", **labels, le="+Inf") == count
        assert 0 < grew("http_request_duration_seconds_sum", **labels) < 60


async def test_what_is_refused_is_counted(api: Api) -> None:
    before = await scrape(api)
    problem(await api.get("/nothing/here"), 404, "route_not_found")
    problem(await api.get("/nowhere"), 404, "route_not_found")
    problem(await api.delete("/tags"), 405, "method_not_allowed")
    problem(await api.request("BREW", "/tags"), 405, "method_not_allowed")
    problem(await api.get("/tags?nonsense=1"), 422, "unknown_parameter")
    problem(await api.get("/tags", headers={"Authorization": "Bearer nonsense"}), 401, "unauthenticated")
    grew = Difference(before, await scrape(api))
    counted: list[tuple[str, str, str, int]] = [
        ("GET", "other", "404", 2),
        ("DELETE", "/tags", "405", 1),
        ("other", "/tags", "405", 1),
        ("GET", "/tags", "422", 1),
        ("GET", "/tags", "401", 1),
    ]
    for method, route, status, count in counted:
        assert grew("http_requests_total", **NATIVE, method=method, route=route, status=status) == count


async def test_statements_are_timed_by_name(api: Api) -> None:
    before = await scrape(api)
    await call(api, "GET", "/tags")
    await call(api, "GET", "/tags?sort=-contact_count")
    grew = Difference(before, await scrape(api))
    statements = "polytag_database_statement_duration_seconds"
    for statement in ("tags.list.name", "tags.list.-contact_count", "system.find_key"):
        assert grew(f"{statements}_count", statement=statement) == 1
        assert 0 < grew(f"{statements}_sum", statement=statement) < 60


async def test_the_pool_and_the_version(api: Api) -> None:
    told = await scrape(api)
    assert value(told, "polytag_database_pool_size") > 0
    assert total(told, "polytag_build_info") == 1


async def test_no_label_holds_what_a_caller_sent(api: Api) -> None:
    key = api.headers["Authorization"].removeprefix("Bearer ")
    [contact] = await make_contacts(api, 1, prefix="someone")
    tag = await make_tag(api, "Unsayable")
    sent = [key, key[5:], contact, tag["id"], "someone0@example.com", "someone", "unsayable", "hushed"]
    for text in sent:
        for path in (f"/{text}", f"/contacts/{text}", f"/contacts/{contact}/tags/{text}", f"/tags/{text}/contacts"):
            for method in ("GET", "PUT", "DELETE", "HUSHED"):
                await api.request(method, path, headers={"X-Request-Id": "hushed", "User-Agent": "hushed"})
        for parameter in ("search", "email", "audience", "hushed"):
            await api.get("/contacts", params={parameter: text})
            await api.get("/tags", params={parameter: text})
            await api.get("/metrics", params={parameter: text}, headers={"Accept": f"text/plain; version=1.0.0.{text}"})
        await api.get("/tags", headers={"Authorization": f"Bearer {text}", "Host": text})
    response = await api.get("/metrics")
    names = api.workspace.principal
    for text in [*sent, names.workspace, str(names.workspace_id), str(names.key_id), "example.com", "newsletter"]:
        assert text.lower() not in response.text.lower()


async def test_a_scrape_needs_no_key_and_no_sql(app: ASGIApp) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://polytag.test") as visitor:
        ran: list[str] = []
        token = statement_log.set(ran)
        try:
            response = await visitor.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        finally:
            statement_log.reset(token)
        assert ran == []
        assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert response.headers["content-encoding"] == "gzip"
        head = await visitor.head("/metrics")
        assert (head.status_code, head.content) == (200, b"")
        problem(await visitor.get("/metrics?name[]=x"), 422, "unknown_parameter")
        problem(await visitor.post("/metrics"), 405, "method_not_allowed")
        document: Any = answered(await visitor.get("/openapi.json"))
        assert document["paths"]["/metrics"]["get"]["responses"]["200"]["content"].keys() == {
            "application/openmetrics-text",
            "text/plain",
        }


@pytest.mark.parametrize("speaks", [False, True])
async def test_while_the_database_is_away(speaks: bool) -> None:
    """Whether nothing listens there, or something that never answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if speaks:
            taken.listen()
        url = f"postgresql://nobody@127.0.0.1:{taken.getsockname()[1]}/nowhere?sslmode=disable"
        async with (
            started(Settings(database_url=url)) as app,
            httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://polytag.test") as visitor,
        ):
            await scrape(visitor)
