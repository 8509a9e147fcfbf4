"""The service as a person runs it: as a process, on the bundled PostgreSQL or another one."""

import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config import Settings, default_data_dir
from app.migrate import newest_revision
from tests.conftest import MakeDatabase

POLYTAG = str(Path(sys.executable).parent / "polytag")
BOUND_SECONDS = 40


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A new data directory that the server's user can reach, and whose socket's path is short."""
    directory = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    directory.chmod(0o755)
    yield directory / "data"
    shutil.rmtree(directory, ignore_errors=True)


class Service:
    """A running `polytag serve`."""

    def __init__(self, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [POLYTAG, "serve", "--port", "0", *options],
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.log: list[str] = []
        assert self.process.stdout
        assert self.process.stderr
        self._output = threading.Thread(target=self._read, args=(self.process.stdout, self._lines.put), daemon=True)
        self._output.start()
        threading.Thread(target=self._read, args=(self.process.stderr, self.log.append), daemon=True).start()
        self.greeting = ""
        try:
            while not self.greeting.endswith("/tags\n\n"):
                self.greeting += self._lines.get(timeout=BOUND_SECONDS)
        except queue.Empty:
            self.process.kill()
            raise AssertionError(f"no greeting: {self.greeting} {''.join(self.log)}") from None
        found = re.search(r"http://\S+", self.greeting)
        assert found
        self.address = found[0]

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def key(self) -> str:
        found = re.search(r"POLYTAG_KEY=(ptag_\w+)", self.greeting)
        assert found
        return found[1]

    @property
    def lines(self) -> list[str]:
        """The lines to try it with."""
        return [line.strip() for line in self.greeting.splitlines() if " curl " in line or "$(curl" in line]

    def rest_of_output(self) -> list[str]:
        """What it has printed after the greeting, once it has stopped."""
        self._output.join(timeout=BOUND_SECONDS)
        return list(self._lines.queue)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(by)
        return self.process.wait(timeout=BOUND_SECONDS)

    @staticmethod
    def _read(stream: Any, keep: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                keep(line)


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without the settings that a developer may have there."""
    return {name: value for name, value in os.environ.items() if not name.startswith("POLYTAG_")} | extra


def polytag(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [POLYTAG, *arguments],
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=BOUND_SECONDS,
        check=False,
    )


def eventually(what: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.05)
    return False


def port_is_free(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex((host, int(port))) != 0


def me(address: str, key: str) -> httpx.Response:
    return httpx.get(f"{address}/me", headers={"Authorization": f"Bearer {key}"})


def test_the_printed_lines_work_as_they_stand(data_dir: Path) -> None:
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        script = "set -e\n" + "\n".join(service.lines)
        done = subprocess.run(
            ["sh", "-c", script],
            env=clean_environment(POLYTAG_KEY=service.key),
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
            check=True,
        )
        assigned, replaced, listed, tags = [json.loads(line) for line in done.stdout.splitlines()]
        assert assigned | {"added": 500, "contact_count": 500, "not_found": []} == assigned
        assert replaced["added"] == ["beta-tester"]
        assert [tag["slug"] for tag in listed["data"]] == ["beta-tester", "vip"]
        assert {tag["slug"]: tag["contact_count"] for tag in tags["data"]} == {"beta-tester": 1, "vip": 500}
        assert not any(service.key in line for line in service.log)
        first_key = service.key
        assert service.stop() == 0
    # A later start keeps the data, and tells of the key what can still be told.
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        assert "ptag_" not in service.greeting
        assert f"--data-dir {data_dir}" in service.greeting
        assert me(service.address, first_key).status_code == 200


def test_one_service_owns_a_data_directory(data_dir: Path) -> None:
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        second = polytag("serve", "--port", "0", "--data-dir", str(data_dir))
        assert second.returncode == 1
        assert f"as process {service.process.pid}" in second.stderr
        assert str(data_dir) in second.stderr


def test_provision_beside_a_running_server(data_dir: Path) -> None:
    words = ("provision", "--workspace", "acme", "--client", "web", "--audience", "newsletter", "--json")
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        first = json.loads(polytag(*words, POLYTAG_DATA_DIR=str(data_dir)).stdout)
        answer = me(service.address, first["key"])
        assert answer.status_code == 200
        assert answer.json() | {"workspace": "acme", "client": "web", "audience": "newsletter"} == answer.json()
        assert first["created"] == ["workspace", "client", "audience"]
        second = json.loads(polytag(*words, POLYTAG_DATA_DIR=str(data_dir)).stdout)
        assert second["created"] == []
        assert second["key"] != first["key"]
        assert me(service.address, second["key"]).status_code == me(service.address, first["key"]).status_code == 200


def test_keys_beside_a_running_server(data_dir: Path) -> None:
    words = ("provision", "--workspace", "acme", "--client", "web", "--audience", "newsletter", "--json")
    own = {"POLYTAG_DATA_DIR": str(data_dir)}
    with Service("--workers", "2", **own) as service:
        made = json.loads(polytag(*words, **own).stdout)
        # Both workers know it, and believe in it for some seconds.
        assert all(me(service.address, made["key"]).status_code == 200 for _ in range(10))
        listed = json.loads(polytag("keys", "list", "--json", **own).stdout)
        assert [key["workspace"] for key in listed] == ["acme", "default"]
        assert polytag("keys", "revoke", made["key_id"], **own).returncode == 0
        assert eventually(
            lambda: all(me(service.address, made["key"]).status_code == 401 for _ in range(10)), BOUND_SECONDS
        )
        assert me(service.address, service.key).status_code == 200


def test_provision_without_a_server(data_dir: Path) -> None:
    words = ("--workspace", "acme", "--client", "ci", "--audience", "news", "--scopes", "tags:read", "--json")
    made = polytag("provision", *words, "--data-dir", str(data_dir))
    key = json.loads(made.stdout)["key"]
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        assert "shown this once" not in service.greeting
        assert me(service.address, key).json()["scopes"] == ["tags:read"]


def test_doctor_beside_a_running_server_and_without_one(data_dir: Path) -> None:
    words = ("doctor", "--repair", "--data-dir", str(data_dir))
    with Service(POLYTAG_DATA_DIR=str(data_dir)):
        assert polytag(*words).returncode == 0
    done = polytag(*words)
    assert done.returncode == 0
    assert done.stdout.endswith("checks passed.\n")


def test_workers_end_with_their_killed_supervisor(data_dir: Path) -> None:
    with Service("--workers", "2", POLYTAG_DATA_DIR=str(data_dir)) as service:
        with httpx.Client(base_url=service.address) as client:
            assert all(client.get("/readyz").status_code == 200 for _ in range(10))
        service.stop(signal.SIGKILL)
        assert eventually(lambda: port_is_free(service.address))
    # The database went too: the directory can be owned again.
    with Service("--workers", "2", POLYTAG_DATA_DIR=str(data_dir)) as service:
        assert service.stop() == 0


def test_the_database_ends_with_a_killed_service(data_dir: Path) -> None:
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        key = service.key
        service.stop(signal.SIGKILL)
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        assert me(service.address, key).status_code == 200


# Becomes the user once everything is loaded: the interpreter itself may be closed to other users.
AS_ANOTHER_USER = """
import os, runpy, sys
import alembic.command, alembic.runtime.migration, alembic.ddl.postgresql, asyncpg, mako.template, uvloop
import app.cli, app.models
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir("/")
sys.argv = ["polytag", *sys.argv[1:]]
app.cli.main()
"""


def test_the_service_ends_with_its_database(data_dir: Path) -> None:
    """It could only say 503 from then on, and whoever supervises it can start it anew."""
    with Service(POLYTAG_DATA_DIR=str(data_dir)) as service:
        postmaster = int((data_dir / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        assert service.process.wait(timeout=BOUND_SECONDS) == 1
        assert eventually(lambda: any("The bundled PostgreSQL has ended" in line for line in service.log))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root to become another user")
def test_as_an_ordinary_user() -> None:
    """The data lies in the user's own directory, and the server runs as that user."""
    home = Path(tempfile.mkdtemp(prefix="polytag-test-"))
    try:
        os.chown(home, 65534, 65534)
        words = ("provision", "--workspace", "a", "--client", "b", "--audience", "c", "--json")
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, *words],
            env=clean_environment(HOME=str(home), XDG_DATA_HOME=str(home / "share")),
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["key"].startswith("ptag_")
        assert (home / "share" / "polytag" / "data").stat().st_uid == 65534
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def test_an_own_database(new_database: MakeDatabase, data_dir: Path) -> None:
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url, POLYTAG_DATA_DIR=str(data_dir)) as service:
        assert "your own PostgreSQL" in service.greeting
        assert me(service.address, service.key).status_code == 200
        assert not data_dir.exists()


def test_upgrade_says_where_the_database_stands(data_dir: Path) -> None:
    for _ in range(2):
        done = polytag("db", "upgrade", "--data-dir", str(data_dir))
        assert done.returncode == 0
        assert done.stdout == f"The database is at revision {newest_revision()}.\n"


def test_a_port_in_use(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = polytag("serve", "--port", str(port), "--data-dir", str(data_dir))
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in done.stderr
    assert "--port" in done.stderr


def test_a_database_that_is_not_there() -> None:
    url = "postgresql://polytag:hunter2@127.0.0.1:1/nowhere"
    done = polytag("serve", "--port", "0", POLYTAG_DATABASE_URL=url)
    assert done.returncode == 1
    assert "The database at 127.0.0.1:1/nowhere" in done.stderr
    assert "POLYTAG_DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("serve", "--port", "0"), {"POLYTAG_POOL_SIZE": "none"}, "POLYTAG_POOL_SIZE"),
        (("serve", "--port", "0"), {"POLYTAG_DATABASE_URL": "mysql://u:hunter2@h/d"}, "POLYTAG_DATABASE_URL"),
        (("provision", "--workspace", "A b", "--client", "b", "--audience", "c"), {}, "must be a slug"),
        (
            ("provision", "--workspace", "a", "--client", "b", "--audience", "c", "--scopes", "all"),
            {},
            "no scope 'all'",
        ),
    ],
)
def test_settings_and_options_that_cannot_be_taken(
    arguments: tuple[str, ...], environment: dict[str, str], said: str
) -> None:
    done = polytag(*arguments, **environment)
    assert done.returncode in {1, 2}
    assert said in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_default_data_directory() -> None:
    is_root = os.name == "posix" and os.geteuid() == 0
    assert (default_data_dir() == Path("/var/lib/polytag")) is is_root
    assert Settings().data_dir.name == "polytag"
