"""What one key's burst does to another key's calls.

One key sends as hard as 64 connections can, first lists of 5,000 contacts for one tag (`PUT /tags/{id}/contacts`), then
`GET /tags/{id}`; the other asks for a tag every 50 ms. Told of the other are p50 and p99 of its times and its failures,
and of the burst the answers by status.

    python benchmarks/one_keys_burst.py [--polytag COMMAND] [--seconds 20]
"""

import argparse
import asyncio
import json
import multiprocessing
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

CONNECTIONS = 64
CONTACTS = 5_000
EVERY_SECONDS = 0.05


@contextmanager
def service(command: str) -> Iterator[tuple[str, str]]:
    """The address of a service, and its first key."""
    with tempfile.TemporaryDirectory(prefix="polytag-bench-") as directory:
        # The bundled server may run as another user.
        Path(directory).chmod(0o755)
        process = subprocess.Popen(  # noqa: S603  # the command is the caller's own
            [command, "serve", "--port", "0", "--json", "--data-dir", f"{directory}/data"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout
        try:
            greeting = json.loads(process.stdout.readline())
            yield greeting["address"], greeting["key"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def request_of(method: str, path: str, key: str, body: object = None) -> bytes:
    """A request as it is sent."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: polytag\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def send_until(end: float, address: str, requests: list[bytes], statuses: Counter[int]) -> None:
    """Send one request after the other, as fast as they are answered."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for request in cycle(requests):
        if time.monotonic() >= end:
            break
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        statuses[int(head[9:12])] += 1
    writer.close()


def burst(seconds: float, address: str, requests: list[bytes], results: Any) -> None:  # noqa: ANN401
    """The one key, in a process of its own."""

    async def all_connections() -> Counter[int]:
        statuses: Counter[int] = Counter()
        end = time.monotonic() + seconds
        await asyncio.gather(*(send_until(end, address, requests, statuses) for _ in range(CONNECTIONS)))
        return statuses

    results.put(dict(asyncio.run(all_connections())))


def ask(seconds: float, address: str, key: str, path: str) -> tuple[list[float], int]:
    """The other key: the times of its calls in milliseconds, and how many failed."""
    times, failures = [], 0
    end = time.monotonic() + seconds
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        while time.monotonic() < end:
            started = time.perf_counter()
            failures += client.get(path).status_code != 200
            times.append((time.perf_counter() - started) * 1_000)
            time.sleep(max(EVERY_SECONDS - times[-1] / 1_000, 0))
    return times, failures


def measure(command: str, seconds: float) -> None:
    """Both bursts, and for comparison none."""
    with service(command) as (address, key), httpx.Client(base_url=address, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        emails = [f"reader{n}@example.com" for n in range(CONTACTS * 2)]
        for start in range(0, len(emails), 1_000):
            contacts = [{"email": email} for email in emails[start : start + 1_000]]
            client.post("/contacts/batch", json={"contacts": contacts}).raise_for_status()
        first, second = (client.post("/tags", json={"name": name}).json()["id"] for name in ("First", "Second"))
        other = client.post("/keys", json={"scopes": ["tags:read"]}).raise_for_status().json()["key"]
        path = f"/tags/{first}/contacts"
        bursts = {
            "no burst": [],
            "PUT of 5,000 contacts": [
                request_of("PUT", path, key, {"emails": half}) for half in (emails[:CONTACTS], emails[CONTACTS:])
            ],
            "GET": [request_of("GET", f"/tags/{first}", key)],
        }
        for name, requests in bursts.items():
            results: Any = multiprocessing.Queue()
            sender = multiprocessing.Process(target=burst, args=(seconds, address, requests, results))
            if requests:
                sender.start()
                time.sleep(1)
            times, failures = ask(seconds - 2, address, other, f"/tags/{second}")
            p99 = statistics.quantiles(times, n=100)[98]
            told = f"{len(times)} calls, p50 {statistics.median(times):.1f} ms, p99 {p99:.1f} ms, {failures} failed"
            print(f"{name}: {told}; the burst: {results.get() if requests else 'none'}", flush=True)  # noqa: T201
            if requests:
                sender.join()


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--polytag", default=str(Path(sys.executable).with_name("polytag")))
    options.add_argument("--seconds", type=float, default=20)
    given = options.parse_args()
    measure(given.polytag, given.seconds)
