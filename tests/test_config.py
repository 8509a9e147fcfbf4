"""Settings that are more than a number: what is taken, in which form, and what is refused."""

import pytest
from pydantic import SecretStr, ValidationError

from app.config import Settings


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("https://tags.example.com", "https://tags.example.com"),
        ("https://tags.example.com/", "https://tags.example.com"),
        ("HTTPS://Tags.Example.COM/PolyTag/", "https://tags.example.com/PolyTag"),
        ("http://localhost:8080/a/b-c_d.e~f", "http://localhost:8080/a/b-c_d.e~f"),
        ("http://polytag_service:8000", "http://polytag_service:8000"),
        ("https://[2001:db8::1]:8443/tags", "https://[2001:db8::1]:8443/tags"),
        ("", None),
    ],
)
def test_public_urls(given: str, taken: str | None) -> None:
    assert Settings(public_url=given).public_url == taken


@pytest.mark.parametrize(
    "given",
    [
        "tags.example.com",
        "//tags.example.com",
        "/polytag",
        "ftp://tags.example.com",
        "https://",
        "https:///polytag",
        "https://user@example.com",
        "https://user:password@example.com",
        "https://example.com?a=b",
        "https://example.com/polytag?",
        "https://example.com/polytag#top",
        "https://example.com//polytag",
        "https://example.com/polytag//",
        "https://example.com/../polytag",
        "https://example.com/a/./b",
        "https://example.com/a%20b",
        "https://example.com/a b",
        "https://example.com/é",
        "https://exämple.com",
        "https://example.com\r\nX: y",
        "https://example.com/\n",
        "https://example.com:port",
        "https://example.com:99999",
        "https://example.com:0",
        "https://[2001:db8::1",
        "https://[::x]",
        " https://example.com",
    ],
)
def test_what_is_no_public_url(given: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(public_url=given)
    assert "password" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("127.0.0.1", "127.0.0.1"),
        (" 10.0.0.0/8 ,, 2001:db8::/32,::1 ", "10.0.0.0/8,2001:db8::/32,::1"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_trusted_proxies(given: str, taken: str) -> None:
    assert Settings(forwarded_allow_ips=given).forwarded_allow_ips == taken


@pytest.mark.parametrize("given", ["proxy.example.com", "10.0.0.1/8", "10.0.0", "*,127.0.0.1", "127.0.0.1 10.0.0.1"])
def test_what_is_no_trusted_proxy(given: str) -> None:
    with pytest.raises(ValidationError):
        Settings(forwarded_allow_ips=given)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("", "10000/10s"),
        (" ", "10000/10s"),
        ("off", "off"),
        (" OFF ", "off"),
        ("1/1s", "1/1s"),
        ("600/60S", "600/60s"),
        ("1000000000/99999s", "1000000000/99999s"),
    ],
)
def test_rate_limits(given: str, taken: str) -> None:
    assert Settings(rate_limit=given).rate_limit == taken


@pytest.mark.parametrize(
    "given",
    [
        "on",
        "none",
        "0",
        "100",
        "0/10s",
        "10/0s",
        "-1/10s",
        "1.5/10s",
        "10/10",
        "10/10m",
        "10/second",
        "10 / 10s",
        "1000000001/1s",
        "1/100000s",
        "01/10s",
        "10/10s/10s",
        # Other digits.
        "\u0661/10s",
    ],
)
def test_what_is_no_rate_limit(given: str) -> None:
    with pytest.raises(ValidationError, match="must be off, or requests and seconds like 600/60s"):
        Settings(rate_limit=given)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://h:6379",
        "redis://h/0",
        "redis://:p%2Fw@127.0.0.1:6379/15",
        "redis://u:p@[::1]:6379/",
    ],
)
def test_urls_of_redis(url: str) -> None:
    settings = Settings(rate_limit_storage=SecretStr(url))
    assert settings.rate_limit_storage == SecretStr(url)
    assert "p%2Fw" not in repr(settings)


def test_an_empty_url_of_redis_is_none() -> None:
    assert Settings.model_validate({"rate_limit_storage": ""}).rate_limit_storage is None


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "s3cretpw@h:6379",
        "http://:s3cretpw@h:6379",
        "redis://",
        "redis://:s3cretpw@",
        "redis://:123/s3cretpw@h:6379",
        "redis://:12?s3cretpw@h:6379",
        "redis://:12#s3cretpw@h:6379",
        "redis://:s3cretpw@h:notaport",
        "redis://:s3cretpw@h:65536",
        "redis://:s3cretpw@h:6379/zero",
        # Options of the client's, which would fail at the first request only.
        "redis://:s3cretpw@h:6379/0?max_connections=none",
        "redis://:s3cretpw@h:6379/0\n",
    ],
)
def test_a_url_of_redis_that_cannot_be_read_is_not_said_back(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(rate_limit_storage=SecretStr(url))
    assert "redis://" in str(refused.value)
    assert "s3cretpw" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:123/s3cretpw@127.0.0.1/db",
        "postgresql://u:x?s3cretpw@127.0.0.1/db",
        "postgresql://u:x#s3cretpw@127.0.0.1/db",
        "postgresql://u:1#s3cretpw@127.0.0.1/db",
        "postgresql:u:s3cretpw@h/db",
        "postgresql://u:s3cretpw@h:notaport/db",
        "postgresql://u:s3cretpw@h:65536/db",
        "postgresql://u:s3cretpw@h:70000/db",
        "mysql://u:s3cretpw@h/db",
    ],
)
def test_a_database_url_that_cannot_be_read_is_not_said_back(url: str) -> None:
    """Where the password was not escaped, any part of the URL may be one of it."""
    with pytest.raises(ValidationError) as refused:
        Settings(database_url=SecretStr(url))
    assert "postgresql://" in str(refused.value)
    assert "s3cretpw" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p%2Fw@127.0.0.1:5432/db?sslmode=require",
        "postgresql://u@h:65535/db",
        "postgresql://u@h:9/db",
        "postgres://u@one:5432,two,[::1]:5433/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://postgres@/postgres?host=/tmp/x&port=54915",
        "postgresql://u:p@ss@h/db",
    ],
)
def test_urls_of_databases(url: str) -> None:
    settings = Settings(database_url=SecretStr(url))
    assert settings.database_url == SecretStr(url)
