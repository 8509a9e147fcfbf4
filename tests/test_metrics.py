"""The series: who may be told apart by them, in which form they are told, and that several workers tell the same."""

import gzip
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import metrics
from tests.conftest import MakeDatabase
from tests.series import Series, here, parse, total, value
from tests.test_server import Service, eventually


def test_unknown_methods_and_paths_are_one_series() -> None:
    before = here()
    for number in range(50):
        metrics.count_request("test-others", f"BREW{number}", None, 404, 0.1)
    told = here()
    assert len(told) - len(before) == len([name for name, labels in told if ("front_end", "test-others") in labels])
    found = value(told, "http_requests_total", front_end="test-others", method="other", route="other", status="404")
    assert found == 50


def test_durations_are_in_seconds() -> None:
    metrics.count_request("test-seconds", "GET", "/tags", 200, 0.25)
    labels = {"front_end": "test-seconds", "method": "GET", "route": "/tags"}
    told = here()
    assert value(told, "http_request_duration_seconds_sum", **labels) == 0.25
    assert value(told, "http_request_duration_seconds_bucket", **labels, le="0.1") == 0
    assert value(told, "http_request_duration_seconds_bucket", **labels, le="0.25") == 1


def test_nothing_is_told_that_several_workers_could_not_tell() -> None:
    names = {name for name, _ in here()}
    assert not {name for name in names if name.startswith(("process_", "python_")) or name.endswith("_created")}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        (
            # As Prometheus sends it.
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        ),
        # What is no version is not looked at, and not said back.
        ("text/plain; version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=1.0.0.secret", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.x.0", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_form_is_negotiated(accept: str, content_type: str) -> None:
    text, headers = metrics.expose(accept, "")
    assert headers == {"Content-Type": content_type}
    assert text.startswith(b"# HELP ")
    assert text.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics-text")


@given(
    st.lists(
        st.sampled_from(
            ["text/plain", "application/openmetrics-text", ";", ",", "=", " ", "version=", "escaping=", "q"]
        )
        | st.sampled_from(["1", ".", "0", "1.0.0", "x", "values", "\xe9", '"', "²"])
    )
)
def test_no_accept_header_is_a_fault(words: list[str]) -> None:
    _, headers = metrics.expose("".join(words), "".join(words))
    assert headers["Content-Type"].startswith(("text/plain; version=", "application/openmetrics-text; version="))


def test_it_is_compressed_on_demand() -> None:
    text, headers = metrics.expose("", "br, gzip;q=0.5")
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(text).startswith(b"# HELP ")


# Several workers.

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to tell workers apart")


def workers_of(service: Service) -> list[int]:
    """The processes that serve."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    found = []
    for child in children:
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def directory_of(worker: int) -> Path:
    """Where a worker keeps its values."""
    environment = Path(f"/proc/{worker}/environ").read_bytes().decode().split("\0")
    [directory] = [line.partition("=")[2] for line in environment if line.startswith("PROMETHEUS_MULTIPROC_DIR=")]
    return Path(directory)


@contextmanager
def only(worker: int, service: Service) -> Iterator[None]:
    """Inside, this worker alone takes connections."""
    others = [pid for pid in workers_of(service) if pid != worker]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            # The supervisor ends one that says nothing for five seconds.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def list_tags(service: Service, times: int) -> None:
    with httpx.Client(base_url=service.address, headers={"Authorization": f"Bearer {service.key}"}) as client:
        assert {client.get("/tags").status_code for _ in range(times)} == {200}


def scrape(service: Service) -> Series:
    answer = httpx.get(f"{service.address}/metrics")
    assert answer.status_code == 200
    return parse(answer.text)


def scrapes(service: Service) -> list[Series]:
    """What each worker tells."""
    told = []
    for worker in workers_of(service):
        with only(worker, service):
            told.append(scrape(service))
    return told


@needs_proc
async def test_any_worker_tells_the_sum_of_all(new_database: MakeDatabase) -> None:
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        # The greeting comes when one of them answers.
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") == 16)
        first, second = workers_of(service)
        for worker, count in ((first, 17), (second, 26)):
            with only(worker, service):
                list_tags(service, count)
        labels = {"front_end": "native", "method": "GET", "route": "/tags"}

        def counted(told: Series) -> tuple[float, ...]:
            return (
                value(told, "http_requests_total", **labels, status="200"),
                value(told, "http_request_duration_seconds_count", **labels),
                value(told, "http_request_duration_seconds_bucket", **labels, le="+Inf"),
                value(told, "polytag_database_statement_duration_seconds_count", statement="tags.list.name"),
                # Of both.
                value(told, "polytag_database_pool_size"),
            )

        # An answer is counted when it is sent, hence perhaps after it was received.
        assert eventually(lambda: counted(scrape(service))[:2] == (43, 43))
        assert [counted(told) for told in scrapes(service)] == [(43, 43, 43, 43, 16)] * 2
        assert eventually(lambda: value(scrape(service), "polytag_database_pool_connections_in_use") == 0)

        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: len(workers_of(service)) == 2 and first not in workers_of(service))
        [third] = set(workers_of(service)) - {second}
        with only(third, service):
            # Its answer shows that it has begun. What the dead one counted stays; its connections do not.
            assert counted(scrape(service)) == (43, 43, 43, 43, 16)

        directory = directory_of(second)
        assert directory.is_dir()
        assert service.stop() == 0
        assert not directory.exists()


@needs_proc
async def test_a_worker_that_ends_takes_its_gauges_along(new_database: MakeDatabase) -> None:
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") == 16)
        before = workers_of(service)
        # One after the other is replaced: the last of the old ones ends when no other begins any more.
        service.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: len(workers_of(service)) == 2 and not {*before} & {*workers_of(service)}, 30)
        assert total(scrape(service), "polytag_database_pool_size") == 16


@needs_proc
async def test_nothing_is_left_of_a_supervisor_that_was_killed(new_database: MakeDatabase) -> None:
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") == 16)
        directory = directory_of(workers_of(service)[0])
        assert directory.is_dir()
        service.stop(signal.SIGKILL)
        assert eventually(lambda: not directory.exists())


@needs_proc
async def test_a_directory_that_was_cleaned_up_is_made_again(new_database: MakeDatabase) -> None:
    """Whoever clears what is temporary takes figures away, but no worker and no answer."""
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") == 16)
        first, _ = workers_of(service)
        shutil.rmtree(directory_of(first))
        assert scrape(service) is not None
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: len(workers_of(service)) == 2 and first not in workers_of(service))
        list_tags(service, 5)
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") >= 8)


@needs_proc
async def test_a_worker_that_is_only_beginning_fails_no_answer(new_database: MakeDatabase) -> None:
    """The file of its values is empty for a moment, and for ever if it is killed in that moment."""
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url) as service:
        directory = directory_of(workers_of(service)[0])
        for name in ("counter_1.db", "histogram_1.db", "gauge_livesum_1.db"):
            (directory / name).touch()
        assert eventually(lambda: total(scrape(service), "polytag_database_pool_size") == 16)
