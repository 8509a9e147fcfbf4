"""The answers do not depend on the locale of the database: folding, order, search and uniqueness are the service's own.

One script of calls runs over HTTP on databases of several locales, and has to get the answers that it gets on the
default one. Turkish is among them where the server has it, for there the small form of I is not i.
"""

import asyncio
import json
import re
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import httpx
import pytest

from app import migrate
from app.config import Settings
from app.database import Database, create_engine
from app.values import fold
from tests.conftest import Api, client_of, make_workspace, started
from tests.databases import empty_database, query

# How a database is made to have a locale, and what is true there but not everywhere.
LOCALES = {
    "libc C": ("locale_provider libc lc_collate 'C' lc_ctype 'C'", "lower('Ä') = 'Ä'"),
    "libc en_US": ("locale_provider libc lc_collate 'en_US.utf8' lc_ctype 'en_US.utf8'", "'a' < 'B'"),
    "libc tr_TR": ("locale_provider libc lc_collate 'tr_TR.utf8' lc_ctype 'tr_TR.utf8'", "lower('I') = '\u0131'"),
    "ICU tr": ("locale_provider icu icu_locale 'tr'", "lower('I') = '\u0131'"),
    # 10 comes after 9, and case and accents count only between texts that are the same otherwise.
    "ICU numeric": ("locale_provider icu icu_locale 'en-u-kn-true-ks-level1'", "'9' < '10'"),
    "builtin full": ("locale_provider builtin builtin_locale 'PG_UNICODE_FAST'", "upper('ß') = 'SS'"),
}

# What a server says that knows no such locale, or is not built to know any of the kind.
NOT_THERE = (
    asyncpg.InvalidParameterValueError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.WrongObjectTypeError,
    asyncpg.PostgresSyntaxError,
)

# Composed and decomposed, dotted and dotless, sharp and final s, digits, signs, and no letter at all.
NAMES = [
    *(
        "VIP",
        "İstanbul",
        "Istanbul",
        "\u0131sparta",
        "Straße",
        "Σοφός",
        "e\u0301clair",
        "Zebra",
        "zebra crossing",
        "Äther",
    ),
    *("a-1", "a 2", "A 10", "_under", "100%", "C", "C++", "C#", "日本", "\ufb01nal", "🎉"),
]
TAKEN_NAMES = ["ViP ", "i\u0307STANBUL", "istanbul", "STRASSE", "ΣΟΦΌΣ", "ÉCLAIR", "ÄTHER", "c++", "FINAL"]
OTHER_NAMES = ["ISPARTA", "eclair", "ZEBRA  crossing", "a 1"]
SEARCHES = ["IST", "i", "\u0131", "STRASSE", "E\u0301", "%", "_", "Σ", "+"]

EMAILS = [
    *("Ilker@Example.com", "\u0131lker@example.com", "İLKER@example.com", "straße@example.com", "a.b@example.com"),
    *("a_b@example.com", "Zoë@example.com", "10@example.com", "9@example.com"),
]
TAKEN_EMAILS = ["ILKER@EXAMPLE.COM", "i\u0307lker@example.com", "STRASSE@example.com", "ZOE\u0308@example.com"]
# Told apart to the letter.
EXTERNAL_IDS = ["Ext-i", "ext-I", "EXT-İ"]
EMAIL_SEARCHES = ["IL", "\u0131", "i", "a_", "A.", "strasse", "%"]

Said = list[tuple[str, Any]]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What differs from one run to the next. A cursor holds an id.
_UNLIKE = {"number", "created_at", "updated_at", "assigned_at", "joined_at", "request_id", "next_cursor"}


class Script:
    """Calls, and what was said to them. Ids are numbered in the order in which they come up."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._numbers: dict[str, str] = {}
        self.said: Said = []

    async def call(self, method: str, path: str, **options: Any) -> Any:
        response: httpx.Response = await self._api.request(method, path, **options)
        body = response.json() if response.content else None
        label = f"{method} {path} {json.dumps(options, ensure_ascii=False)}"
        self.said.append((self._masked(label), (response.status_code, self._masked(body))))
        return body

    async def walk(self, path: str, **parameters: str) -> None:
        """A list in one page, and then in small ones, which put together have to be the same."""
        whole = await self.call("GET", path, params={**parameters, "limit": 1000})
        items: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            response = await self._api.get(path, params={**parameters, "limit": 7, **cursor})
            page = response.json()
            items += page["data"]
            if not page["pagination"]["has_more"]:
                break
            cursor = {"cursor": page["pagination"]["next_cursor"]}
        assert items == whole["data"]

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._masked(part) for key, part in value.items() if key not in _UNLIKE}
        if isinstance(value, list):
            return [self._masked(part) for part in value]
        if isinstance(value, str):
            return _UUID.sub(lambda found: self._numbers.setdefault(found[0], f"#{len(self._numbers)}"), value)
        return value


async def run(script: Script) -> None:
    call, walk = script.call, script.walk
    for name in [*NAMES, *TAKEN_NAMES, *OTHER_NAMES]:
        await call("POST", "/tags", json={"name": name})
    await call("POST", "/tags/batch", json={"tags": [{"name": name} for name in reversed(NAMES + TAKEN_NAMES)]})

    contacts = [
        await call("POST", "/contacts", json={"email": email, "external_id": f"{place}", "tags": NAMES[:place]})
        for place, email in enumerate(EMAILS)
    ]
    for email in TAKEN_EMAILS:
        await call("POST", "/contacts", json={"email": email})
        await call("GET", "/contacts", params={"email": email})
    for place, external_id in enumerate(EXTERNAL_IDS):
        await call("POST", "/contacts", json={"email": f"{place}@example.org", "external_id": external_id})
        await call("GET", "/contacts", params={"external_id": external_id})
    await call("POST", "/contacts", json={"email": "new@example.org", "external_id": "ext-I"})
    await walk("/contacts")
    for search in EMAIL_SEARCHES:
        await call("GET", "/contacts", params={"search": search})

    for sort in ("name", "-name", "created_at", "-contact_count"):
        await walk("/tags", sort=sort)
    for search in SEARCHES:
        await call("GET", "/tags", params={"search": search})
    for slug in ("vip", "istanbul-2", "c", "c-2"):
        await call("GET", "/tags", params={"slug": slug})

    tags = f"/contacts/{contacts[0]['id']}/tags"
    await call("PUT", tags, json={"tags": ["vIP", "ISTANBUL", "strasse", "ISPARTA", "zebra", "A 10", "a 2", "日本"]})
    await call("PATCH", tags, json={"add": ["Éclair", "C"], "remove": ["IstanbuL", "STRAßE"]})
    await call("POST", tags, params={"create_missing": "false"}, json={"tags": ["vip", "\u0131stanbul"]})
    for slug in ("VIP", "ZEBRA", "İstanbul", "Crème-Brûlée"):
        await call("PUT", f"{tags}/{slug}")
        await call("GET", f"{tags}/{slug}")
        await call("DELETE", f"{tags}/{slug}")
    await call("GET", tags)

    [vip] = (await call("GET", "/tags", params={"slug": "vip"}))["data"]
    await call("POST", f"/tags/{vip['id']}/contacts", json={"emails": [*EMAILS, *TAKEN_EMAILS]})
    await walk(f"/tags/{vip['id']}/contacts")
    await call("PATCH", f"/tags/{vip['id']}", json={"name": "ZEBRA"})
    await call("PATCH", f"/tags/{vip['id']}", json={"name": "v\u0131p"})
    for name in ("Große Liste", "GROSSE LISTE", "İlk", "ilk", "Zweite", "ähnlich"):
        await call("POST", "/audiences", json={"name": name})
    await call("GET", "/audiences")


async def answers_on(url: str) -> Said:
    """What a service on this database says."""
    database = Database(create_engine(url, pool_size=2))
    try:
        workspace = await make_workspace(database)
        async with started(Settings(database_url=url, pool_size=2)) as app, client_of(app, workspace) as api:
            script = Script(api)
            await run(script)
            return script.said
    finally:
        await database.dispose()


@pytest.fixture(scope="module")
async def usual(database_url: str) -> Said:
    return await answers_on(database_url)


@pytest.mark.parametrize("locale", LOCALES)
async def test_another_locale_makes_no_difference(locale: str, usual: Said, server_url: str) -> None:
    options, peculiarity = LOCALES[locale]
    async with AsyncExitStack() as stack:
        try:
            url = await stack.enter_async_context(empty_database(server_url, options))
        except NOT_THERE as error:
            pytest.skip(f"{locale}: {error}")
        await asyncio.to_thread(migrate.upgrade, url)
        assert await query(url, f"select {peculiarity}") == [(True,)]
        said = await answers_on(url)

    for here, there in zip(said, usual, strict=True):
        assert here == there


async def test_the_answers_are_the_right_ones(usual: Said) -> None:
    """The same everywhere could be the same mistake everywhere."""
    tags = statuses_of(usual, "POST /tags ")
    assert tags == [201] * len(NAMES) + [409] * len(TAKEN_NAMES) + [201] * len(OTHER_NAMES)
    contacts = statuses_of(usual, "POST /contacts ")
    assert contacts == [201] * len(EMAILS) + [200] * len(TAKEN_EMAILS) + [201] * len(EXTERNAL_IDS) + [200]

    names = sorted([name.strip() for name in [*NAMES, *OTHER_NAMES]], key=fold)
    assert [fold(tag["name"]) for tag in data_of(usual, 'GET /tags {"params": {"sort": "name"')] == [*map(fold, names)]
    for search in SEARCHES:
        found = [fold(tag["name"]) for tag in data_of(usual, f'GET /tags {{"params": {{"search": {quoted(search)}')]
        assert found == [fold(name) for name in names if fold(search) in fold(name)], search
    for search in EMAIL_SEARCHES:
        found = [
            fold(one["email"]) for one in data_of(usual, f'GET /contacts {{"params": {{"search": {quoted(search)}')
        ]
        assert found == [fold(email) for email in EMAILS if fold(email).startswith(fold(search))], search
    for external_id in EXTERNAL_IDS:
        [one] = data_of(usual, f'GET /contacts {{"params": {{"external_id": {quoted(external_id)}')
        assert one["external_id"] == external_id


def statuses_of(said: Said, call: str) -> list[int]:
    return [status for label, (status, _) in said if label.startswith(call)]


def data_of(said: Said, call: str) -> list[Any]:
    """The items of the one list that was asked for like this."""
    [(_, body)] = [answer for label, answer in said if label.startswith(call)]
    data: list[Any] = body["data"]
    return data


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
