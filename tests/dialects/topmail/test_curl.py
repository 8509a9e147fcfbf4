"""The curl lines of the vendor's page, run by curl as they stand: base URL, key and ids alone are replaced.

And those of our guide.
"""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dialects.topmail.test_documented import contact_of, page_of, tag_of
from tests.routers.calls import Json, answered
from tests.test_server import BOUND_SECONDS, POLYTAG, Service, clean_environment, me

# In the order of the page.
LISTS, RETRIEVES, CREATES, UPDATES, DELETES, LISTS_CONTACTS, ASSIGNS, REMOVES = r"""
curl "https://api.topmail.so/api/v1/tags?search=vip&limit=20" \-H "Authorization: Bearer tm_live_abc123"
curl https://api.topmail.so/api/v1/tags/TAG_ID \-H "Authorization: Bearer tm_live_abc123"
curl -X POST https://api.topmail.so/api/v1/tags \-H "Authorization: Bearer tm_live_abc123" \-H "Content-Type: application/json" \-d '{"name": "Beta Tester","color": "#10b981","description": "Users in the beta program"}'
curl -X PATCH https://api.topmail.so/api/v1/tags/TAG_ID \-H "Authorization: Bearer tm_live_abc123" \-H "Content-Type: application/json" \-d '{"name": "Early Adopter", "color": "#f59e0b"}'
curl -X DELETE https://api.topmail.so/api/v1/tags/TAG_ID \-H "Authorization: Bearer tm_live_abc123"
curl "https://api.topmail.so/api/v1/tags/TAG_ID/contacts?limit=50" \-H "Authorization: Bearer tm_live_abc123"
curl -X POST https://api.topmail.so/api/v1/tags/TAG_ID/contacts \-H "Authorization: Bearer tm_live_abc123" \-H "Content-Type: application/json" \-d '{"contact_ids": ["c1a2b3c4-d5e6-7890-abcd-ef1234567890","c2b3c4d5-e6f7-8901-bcde-f12345678901"]}'
curl -X DELETE https://api.topmail.so/api/v1/tags/TAG_ID/contacts \-H "Authorization: Bearer tm_live_abc123" \-H "Content-Type: application/json" \-d '{"contact_ids": ["c1a2b3c4-d5e6-7890-abcd-ef1234567890"]}'
""".strip().splitlines()  # noqa: E501 - as the page has them

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    directory.chmod(0o755)
    yield directory / "data"
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def service(data_dir: Path) -> Iterator[Service]:
    """One running service for all lines, on a bundled PostgreSQL of its own."""
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as running:
        yield running


class Page:
    """What the page's examples speak of: a tag, two contacts of whom the first carries it, and a key."""

    _numbers = count()

    def __init__(self, service: Service, curl_home: Path) -> None:
        self._curl_home = curl_home
        self._base_url = f"{service.address}/topmail/api/v1"
        native = httpx.Client(base_url=service.address, headers={"Authorization": f"Bearer {service.key}"})
        # A namespace for each line, since they use the same names.
        audience = f"page-{next(self._numbers)}"
        with native:
            answered(native.post("/audiences", json={"name": audience}), 201)
            made = answered(native.post("/keys", json={"audience": audience, "scopes": ["admin"]}), 201)
        self._key = made["key"]
        self.tag = self.call("POST", "/tags", {"name": "My VIP"}, 201)["data"]
        self.contacts: list[Json] = [
            self.call("POST", "/contacts", {"email": f"{name}@example.com"}, 201)["data"] for name in ("ada", "bob")
        ]
        self.call("POST", f"/tags/{self.tag['id']}/contacts", {"contact_ids": [self.contacts[0]["id"]]})
        self.tag = self.call("GET", f"/tags/{self.tag['id']}")["data"]

    def call(self, method: str, path: str, body: object = None, status: int = 200) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"}
        return answered(httpx.request(method, self._base_url + path, json=body, headers=headers), status)

    def curl(self, line: str) -> tuple[int, Any]:
        """Run a line, and give the status and the JSON that came back."""
        for theirs, ours in {
            "https://api.topmail.so/api/v1": self._base_url,
            "tm_live_abc123": self._key,
            "TAG_ID": self.tag["id"],
            "c1a2b3c4-d5e6-7890-abcd-ef1234567890": self.contacts[0]["id"],
            "c2b3c4d5-e6f7-8901-bcde-f12345678901": self.contacts[1]["id"],
        }.items():
            line = line.replace(theirs, ours)
        done = subprocess.run(
            ["sh", "-c", line],
            env=clean_environment(CURL_HOME=str(self._curl_home), NO_PROXY="*"),
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
            check=True,
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)


@pytest.fixture
def page(service: Service, tmp_path: Path) -> Page:
    # What is asked of curl besides: to show no progress, to say the status, and to come to an end.
    (tmp_path / ".curlrc").write_text(f'silent\nwrite-out = "\\n%{{http_code}}"\nmax-time = {BOUND_SECONDS}\n')
    return Page(service, tmp_path)


def vip_of(page: Page, **expected: Any) -> Json:
    defaults = {"name": "My VIP", "color": "#6366f1", "description": None, "contact_count": 1}
    return tag_of(page.tag, **(defaults | expected))


def test_list_tags(page: Page) -> None:
    page.call("POST", "/tags", {"name": "other"}, 201)
    assert page.curl(LISTS) == (200, page_of([vip_of(page)], limit=20))


def test_retrieve(page: Page) -> None:
    assert page.curl(RETRIEVES) == (200, {"data": vip_of(page)})


def test_create(page: Page) -> None:
    status, made = page.curl(CREATES)
    assert (status, made) == (201, {"data": tag_of(made["data"])})
    assert page.call("GET", f"/tags/{made['data']['id']}") == made


def test_update(page: Page) -> None:
    status, changed = page.curl(UPDATES)
    expected = vip_of(page, name="Early Adopter", color="#f59e0b", updated_at=changed["data"]["updated_at"])
    assert (status, changed) == (200, {"data": expected})
    assert page.call("GET", f"/tags/{page.tag['id']}") == changed


def test_delete(page: Page) -> None:
    assert page.curl(DELETES) == (200, {"data": {"id": page.tag["id"], "deleted": True}})
    page.call("GET", f"/tags/{page.tag['id']}", status=404)
    page.call("GET", f"/contacts/{page.contacts[0]['id']}")


def test_list_contacts(page: Page) -> None:
    assert page.curl(LISTS_CONTACTS) == (200, page_of([contact_of(page.contacts[0])], limit=50))


def test_assign(page: Page) -> None:
    done = {"tag_id": page.tag["id"], "requested": 2, "added": 1, "already_tagged": 1, "not_found": []}
    assert page.curl(ASSIGNS) == (200, {"data": done})
    listed = page.call("GET", f"/tags/{page.tag['id']}/contacts")["data"]
    assert [contact["id"] for contact in listed] == [contact["id"] for contact in page.contacts]


def test_remove(page: Page) -> None:
    done = {"tag_id": page.tag["id"], "requested": 1, "removed": 1}
    assert page.curl(REMOVES) == (200, {"data": done})
    assert page.call("GET", f"/tags/{page.tag['id']}/contacts")["data"] == []


def test_the_lines_of_the_guide(service: Service, data_dir: Path, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "dialects" / "topmail.md").read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", guide, re.DOTALL))
    (tmp_path / ".curlrc").write_text(f'silent\nfail\nwrite-out = "\\n"\nmax-time = {BOUND_SECONDS}\n')
    done = subprocess.run(
        ["sh", "-ec", lines.replace("http://127.0.0.1:8000", service.address).replace(".venv/bin/polytag", POLYTAG)],
        env=clean_environment(CURL_HOME=str(tmp_path), NO_PROXY="*", POLYTAG_DATA_DIR=str(data_dir)),
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=True,
    )
    made, listed, key = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert made == {"data": tag_of(made["data"], description=None)}
    assert listed == page_of([made["data"]], limit=20)
    scopes = ["contacts:read", "contacts:write", "tags:read", "tags:write"]
    shown = answered(me(service.address, key["key"]))
    assert shown | {"workspace": "acme", "audience": "newsletter", "scopes": scopes} == shown
