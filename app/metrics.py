"""What the service counts and times, and the text in which Prometheus reads it.

The series are those of one process. Where several workers serve, each keeps its values in files of one directory, and
whichever of them is asked adds up what is there. No label comes from what a caller sends: the number of series has a
bound, and none of them tells of a tenant.
"""

import gzip
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, disable_created_metrics
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

# Unnumbered events are counted up to here.
UNNUMBERED_MAX = 10_000

OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_OWN_PREFIX = "polytag-metrics-"
_DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# The library decides by it at its import, too, whether values are in files.
_DIRECTORY = os.environ.get(_DIRECTORY_VARIABLE)
if _DIRECTORY is not None:
    # Somebody may have cleaned up what is temporary, and a worker that is born again must not end by it.
    Path(_DIRECTORY).mkdir(parents=True, exist_ok=True)

# The library's would have what it says of its own process besides, which is true of one worker only.
_registry = CollectorRegistry()
# When a series began cannot be told for several workers.
disable_created_metrics()  # type: ignore[no-untyped-call]

_WAIT_MIN_SECONDS = 0.001
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_requests = Counter(
    "http_requests_total", "Requests answered.", ("front_end", "method", "route", "status"), registry=_registry
)
_request_duration = Histogram(
    "http_request_duration_seconds",
    "Time from a request to the end of its answer.",
    ("front_end", "method", "route"),
    buckets=_BUCKETS,
    registry=_registry,
)
_statement_duration = Histogram(
    "polytag_database_statement_duration_seconds",
    "Time of one SQL statement, failed ones included.",
    ("statement",),
    buckets=_BUCKETS,
    registry=_registry,
)
_retries = Counter(
    "polytag_database_unit_retries_total", "Units of work that were run again.", ("cause",), registry=_registry
)
_retries_by_cause = {cause: _retries.labels(cause) for cause in ("deadlock", "serialization")}

_pool_size = Gauge(
    "polytag_database_pool_size",
    "Connections that the pools of all workers may have.",
    multiprocess_mode="livesum",
    registry=_registry,
)
pool_connections_in_use = Gauge(
    "polytag_database_pool_connections_in_use",
    "Connections that units of work hold, looked at every second.",
    multiprocess_mode="livesum",
    registry=_registry,
)
# Not a histogram: the rate of this is how many units wait at a time, which is what one wants to know.
_pool_wait = Counter(
    "polytag_database_pool_wait_seconds_total",
    "Time that units of work waited for a connection, opened for them or in vain included; not below a millisecond.",
    registry=_registry,
)
pool_timeouts = Counter(
    "polytag_database_pool_timeouts_total", "Units of work that got no connection in time.", registry=_registry
)
rate_limit_storage_failures = Counter(
    "polytag_rate_limit_storage_failures_total",
    "Times that the Redis of the rate limits did not answer, and was then left alone for some seconds.",
    registry=_registry,
)
events_unnumbered = Gauge(
    "polytag_events_unnumbered",
    f"Events without a position yet, counted every few seconds, and up to {UNNUMBERED_MAX} only.",
    multiprocess_mode="livemostrecent",
    registry=_registry,
)
_build_info = Gauge(
    "polytag_build_info", "1, by the version that runs.", ("version",), multiprocess_mode="livemax", registry=_registry
)


def count_request(front_end: str, method: str, route: str | None, status: int, seconds: float) -> None:
    """Note a request that was answered. Without a route it is one of `other`, as is a method that nobody has."""
    requests, duration = _series(front_end, method if method in _METHODS else OTHER, route or OTHER, status)
    requests.inc()
    duration.observe(seconds)


@cache
def _series(front_end: str, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return (
        _requests.labels(front_end, method, route, status),
        _request_duration.labels(front_end, method, route),
    )


def time_statement(name: str, seconds: float) -> None:
    """Note how long a statement of this name took."""
    _duration_of(name).observe(seconds)


@cache
def _duration_of(statement: str) -> Histogram:
    return _statement_duration.labels(statement)


def time_pool_wait(seconds: float) -> None:
    """Note how long a unit of work waited for its connection."""
    # Most do not wait, and noting that would cost as much as all else at a statement.
    if seconds >= _WAIT_MIN_SECONDS:
        _pool_wait.inc(seconds)


def count_retry(cause: Literal["deadlock", "serialization"]) -> None:
    """Note that a unit of work is run again."""
    _retries_by_cause[cause].inc()


def begin(*, version: str, connections: int) -> None:
    """To be called by a process that begins to serve. What is left of workers that were killed goes."""
    if _DIRECTORY is not None and sys.platform != "win32":  # where asking for a process would end it
        for file in Path(_DIRECTORY).glob("gauge_live*.db"):
            pid = file.stem.rpartition("_")[2]
            if pid.isdecimal() and not _is_alive(int(pid)):
                _forget_gauges(_DIRECTORY, int(pid))
    _build_info.labels(version).set(1)
    _pool_size.set(connections)


def end() -> None:
    """To be called by a process that serves no longer. Its counts stay, or sums would fall; its gauges go."""
    if _DIRECTORY is None:
        return
    _forget_gauges(_DIRECTORY, os.getpid())
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and os.getppid() != supervisor.pid and Path(_DIRECTORY).name.startswith(_OWN_PREFIX):
        # It was killed, and cannot put its directory away.
        shutil.rmtree(_DIRECTORY, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _forget_gauges(directory: str, pid: int) -> None:
    # Another worker that starts may be at it as well.
    with suppress(OSError):
        mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


@contextmanager
def shared_by_workers() -> Iterator[None]:
    """The directory in which processes that are started inside keep their values, for each of them to tell all."""
    with tempfile.TemporaryDirectory(prefix=_OWN_PREFIX, ignore_cleanup_errors=True) as directory:
        os.environ[_DIRECTORY_VARIABLE] = directory
        yield


class _Collector(MultiProcessCollector):
    """Passes over files that are empty, on which the library fails.

    They are of processes that have just begun; what the file has once, it keeps. Seen in prometheus-client 0.26.
    """

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(_DIRECTORY or "").glob("*.db") if _has_values(file)]
        merged: Iterable[Metric] = self.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _has_values(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def expose(accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """All series, as text or OpenMetrics, compressed or not, and the headers that say which. Takes no SQL."""
    registry = _registry
    if _DIRECTORY is not None:
        registry = CollectorRegistry()
        Path(_DIRECTORY).mkdir(parents=True, exist_ok=True)
        _Collector(registry, _DIRECTORY)  # type: ignore[no-untyped-call]
    # The library fails on versions that are none, and says others back.
    readable = ",".join(kind for kind in accept.split(",") if not _ODD_VERSION.search(kind))
    encode, content_type = choose_encoder(readable)
    body = encode(registry)
    headers = {"Content-Type": content_type}
    if gzip_accepted(accept_encoding):
        return gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
    return body, headers


_ODD_VERSION = re.compile(r"version=(?!\d{1,4}(?:\.\d{1,4}){2}\s*(?:;|$))", re.ASCII)
