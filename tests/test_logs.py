"""What is in the log, and above all what is not."""

import asyncio
import io
import json
import logging
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog

from app import logs
from app.values import new_key
from tests.conftest import MakeDatabase
from tests.test_server import Service, eventually

KEY = "ptag_" + "Kk9" * 12 + "zz"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the log goes in a test; afterwards logging is what it was."""
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(one.handlers[:], one.level, one.propagate, one.disabled) for one in loggers]
    yield io.StringIO()
    structlog.reset_defaults()
    for one, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
        one.handlers[:], one.level, one.propagate, one.disabled = handlers, level, propagate, disabled
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]  # of what levels let through


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def raise_with_local_variables() -> None:
    password = "hunter2"  # noqa: F841
    raise ValueError(f"cannot use {KEY}")


@pytest.fixture(params=["json", "console"])
def log_format(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_line_of_json(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("app.test").info("it happened", count=3)
    [line] = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("timestamp"))
    assert line == {"event": "it happened", "count": 3, "level": "info", "logger": "app.test", "request_id": "r1"}


def test_the_standard_library_goes_the_same_way(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    logs.configure("info", "json", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        logging.getLogger("uvicorn.error").info("Started %s", "server", extra={"color_message": "x"})
    logging.getLogger("sqlalchemy.pool").warning("slow")
    assert [(line["event"], line["logger"], line.get("request_id")) for line in lines(stream)] == [
        ("Started server", "uvicorn.error", "r1"),
        ("slow", "sqlalchemy.pool", None),
    ]


def test_the_servers_access_log_is_off(stream: io.StringIO) -> None:
    logs.configure("debug", "json", stream)
    logging.getLogger("uvicorn.access").info('127.0.0.1 - "GET /?api_token=x HTTP/1.1" 200')
    assert stream.getvalue() == ""


def test_levels(stream: io.StringIO) -> None:
    logs.configure("warning", "json", stream)
    for logger in (structlog.get_logger("app"), logging.getLogger("other")):
        logger.info("not this")
        logger.warning("this")
    assert [line["event"] for line in lines(stream)] == ["this", "this"]


def test_what_is_not_a_terminal_gets_json(stream: io.StringIO) -> None:
    logs.configure("info", "auto", stream)
    structlog.get_logger().info("x")
    assert lines(stream)[0]["event"] == "x"


def test_a_terminal_gets_text(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "isatty", lambda: True)
    logs.configure("info", "auto", stream)
    structlog.get_logger().info("it happened", count=3)
    assert "it happened" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_tracebacks_are_without_local_variables_and_keys(stream: io.StringIO, log_format: Any) -> None:
    logs.configure("info", log_format, stream)
    for logger in (structlog.get_logger("app"), logging.getLogger("uvicorn.error")):
        try:
            raise_with_local_variables()
        except ValueError:
            logger.exception("failed")
    text = stream.getvalue()
    assert text.count("ValueError") >= 2
    assert "raise_with_local_variables" in text
    assert "hunter2" not in text.replace('password = "hunter2"', "")
    assert KEY not in text
    assert "ptag_…" in text or "ptag_\\u2026" in text


def test_long_error_texts_are_cut(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    fault = ExceptionGroup("several", [ValueError("x" * 10_000)])
    structlog.get_logger("app").error("failed", exc_info=fault)
    assert len(stream.getvalue()) < 5_000


def test_a_key_is_masked_wherever_it_stands(stream: io.StringIO, log_format: Any) -> None:
    logs.configure("info", log_format, stream)
    structlog.get_logger("app").info(f"key {KEY}", header=f"Bearer {KEY}", nested={"keys": [KEY]})
    logging.getLogger("other").info("GET /subscribers?api_token=%s", KEY)
    assert KEY not in stream.getvalue()
    assert KEY[10:] not in stream.getvalue()


async def test_faults_of_tasks_are_logged_alike(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    asyncio.get_running_loop().call_exception_handler({"message": "lost", "exception": ValueError(KEY)})
    [line] = lines(stream)
    assert line["logger"] == "asyncio"
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert KEY not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("nothing", "nothing"), (f"a {KEY} b", "a ptag_… b"), ("ptag_abcd", "ptag_abcd"), ("ptag_abcde", "ptag_…")],
)
def test_masking_leaves_the_shown_prefix(text: str, expected: str) -> None:
    assert logs.mask_keys(text) == expected


async def test_no_part_of_a_key_is_in_the_log_of_the_service(new_database: MakeDatabase) -> None:
    """Wherever it is sent, in good requests and bad ones, and whatever is logged."""
    url = await new_database()
    with Service("--workers", "2", POLYTAG_DATABASE_URL=url, POLYTAG_LOG_LEVEL="debug") as service:
        keys = [service.key, new_key(), service.key[5:], f"{service.key}x"]
        async with httpx.AsyncClient(base_url=service.address) as client:
            for key in keys:
                # What is 200 and 404 with one of the keys is 401 with the others.
                for path in (
                    "/tags",
                    f"/tags?search={key}",
                    f"/tags/{key}",
                    f"/%70tag_{key}",
                    f"/contacts/{key}/tags/{key}",
                ):
                    for headers in (
                        {"Authorization": f"Bearer {service.key}"},
                        {"Authorization": f"Bearer {key}"},
                        {"Authorization": key},
                        {"Authorization": f"Bearer {service.key}", "X-Forwarded-For": f"{key}, 203.0.113.9, {key}"},
                        {"Authorization": f"Bearer {service.key}", "X-Forwarded-For": f"fe80::1%{key}"},
                        {"Host": key, "User-Agent": key, "Referer": f"https://example.com/{key}"},
                        {"Host": f"{key}@[x", "X-Forwarded-Proto": key, "X-Request-Id": service.key, "Cookie": key},
                    ):
                        assert (await client.get(path, headers=headers)).status_code < 500
                        assert (await client.post(path, headers=headers, content=key)).status_code < 500
                assert (await client.request("PUT", f"/tags?{key}={key}", json={"name": key})).status_code == 405
                say(service, f"GET /{key} HTTP/{key}\r\n{key}\r\n\r\n")
                say(service, f"{key} / HTTP/1.1\r\nHost: {key}\r\n\r\n")
                say(service, f"GET /{key} HTTP/1.1\r\nHost: {key}\r\nUpgrade: {key}\r\nConnection: upgrade\r\n\r\n")
            last = (await client.get("/tags", headers={"Authorization": f"Bearer {service.key}"})).headers[
                "x-request-id"
            ]
        assert eventually(lambda: any(last in line for line in service.log))
        assert service.stop() == 0
        text = "".join(service.log)
        # It was looked at what was logged, after all.
        assert text.count('"event": "request"') > 200
        assert "malformed_request" in text
        for key in keys:
            secret = key.removeprefix("ptag_")
            assert [secret[at : at + 8] for at in range(len(secret) - 7) if secret[at : at + 8] in text] == []


def say(service: Service, text: str) -> None:
    """Send what no client would."""
    host, _, port = service.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(text.encode())
        connection.settimeout(10)
        connection.recv(1_000)


@pytest.mark.parametrize(("text", "expected"), [("a", "a"), ("a\ud800", "a?"), (f"x{KEY}", "xptag_…")])
def test_what_is_said_back(text: str, expected: str) -> None:
    assert logs.shown(text) == expected
    assert len(logs.shown(text * 1_000)) <= 201
