"""Settings: one place, read from the environment (prefix `POLYTAG_`), frozen, and used by `main` and `cli` alone.

Everything below those two takes plain values, so that it can be tested without an environment.
"""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_data_dir() -> Path:
    """Where the bundled PostgreSQL keeps its data: the user's data directory, /var/lib/polytag for root.

    Root's home is closed to the unprivileged user that the server must run as.
    """
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return Path("/var/lib/polytag") if is_root else platformdirs.user_data_path("polytag")


_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]?\d{1,4})"
_HOST = rf"(\[[0-9a-fA-F:.]+\]|[^\[\]:,@/?#]*)(:{_PORT}?)?"
_DATABASE_URL = re.compile(rf"postgres(ql)?://([^/?#]*@)?{_HOST}(,{_HOST})*(/[^/?#@]*)?(\?[^#@]*)?")

_REDIS_HOST = r"(\[[0-9a-fA-F:.]+\]|[^\[\]:,@/?#\s]+)"
_REDIS_URL = re.compile(rf"rediss?://([^/?#@]*@)?{_REDIS_HOST}(:{_PORT})?(/\d{{0,4}})?", re.ASCII)
_RATE = re.compile(r"(1000000000|[1-9]\d{0,8})/[1-9]\d{0,4}s", re.ASCII)


class Settings(BaseSettings):
    """Every option of the service. Each is an environment variable: `POLYTAG_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="POLYTAG_", frozen=True, extra="ignore", hide_input_in_errors=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Processes that serve requests.")
    public_url: str | None = Field(
        None,
        description="Where clients reach the service through a proxy, e.g. https://tags.example.com or "
        "https://example.com/polytag. The proxy takes the path (/polytag) away before it passes a request on. `Link` "
        "and `Location` then begin with this URL; without it they are paths.",
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1",
        description="Addresses and networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, "
        "with commas between; empty for none, `*` for everybody, which is safe only where nobody but the proxy can "
        "connect.",
    )
    database_url: SecretStr | None = Field(
        None,
        description="postgresql://user:password@host/database of your own server (PostgreSQL 15 or newer). "
        "Without it the bundled PostgreSQL is started.",
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Data directory of the bundled PostgreSQL. Unused with a database URL.",
    )
    dialects: str = Field(
        "all",
        description="Vendors whose APIs are served beside Polytag's own: `all`, `none`, or their names with commas "
        "between, e.g. topmail,datamailer.",
    )
    pool_size: int = Field(
        8,
        ge=1,
        le=64,
        description="Database connections of one worker. Requests of one key use all but two of them, or but a quarter "
        "where that is more.",
    )
    pool_timeout: float = Field(
        5,
        gt=0,
        le=300,
        description="Seconds a request waits for a free database connection before it answers 503, and for other "
        "requests of its key before it answers 429.",
    )
    statement_timeout: float = Field(
        20, gt=0, le=3600, description="Seconds one SQL statement may take before it is cancelled (503)."
    )
    lock_timeout: float = Field(
        5, gt=0, le=3600, description="Seconds a statement waits for a row that another request holds (503)."
    )
    request_timeout: float = Field(
        30,
        gt=0,
        le=3600,
        description="Seconds one request may take as a whole before it is cancelled: 503, or 408 if it was the body "
        "that did not come.",
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body, in bytes (413 beyond).")
    max_bulk_body_bytes: int = Field(
        4_194_304, ge=1024, description="Largest body of calls that take lists of contacts, in bytes (413 beyond)."
    )
    rate_limit: str = Field(
        "10000/10s",
        description="Requests that an API key may make in a span of time: `600/60s` is 600 in 60 seconds, 429 beyond. "
        "`off` is no limit. Both are whole numbers from 1, at most 1,000,000,000 requests and 99,999 seconds. The "
        "default is more than one process serves of most calls.",
    )
    rate_limit_storage: SecretStr | None = Field(
        None,
        description="redis://user:password@host:port/database, or rediss:// for TLS: where all processes count "
        "together; needs `pip install 'polytag[redis]'`. Without it each worker counts for itself, so that N workers "
        "may let through N times the limit; so do they while Redis is away.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level that is logged: debug, info, warning or error."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json: a JSON object a line. console: for people. auto: console on a terminal, else json."
    )

    @field_validator("database_url", "public_url", "rate_limit_storage", mode="before")
    @classmethod
    def _empty_is_none(cls, url: object) -> object:
        # As a line without a value in an .env file has it.
        return None if url == "" else url

    @field_validator("dialects")
    @classmethod
    def _are_names(cls, names: str) -> str:
        # As a line without a value in an .env file has it.
        return ",".join(name for one in names.lower().split(",") if (name := one.strip())) or "all"

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_any_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @field_validator("data_dir")
    @classmethod
    def _from_anywhere(cls, directory: Path) -> Path:
        return directory.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        # What it holds is not said back: a part of the password may stand anywhere if it was not escaped.
        if url is None:
            return None
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://, e.g. postgresql://polytag:secret@db.example.com/polytag")
        if not _DATABASE_URL.fullmatch(url.get_secret_value()):
            raise ValueError(
                "must be like postgresql://polytag:secret@db.example.com:5432/polytag; in the password, write "
                "/ as %2F, ? as %3F, # as %23 and @ as %40"
            )
        return url

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, rate: str) -> str:
        # As a line without a value in an .env file has it.
        rate = rate.strip().lower() or cls.model_fields["rate_limit"].default
        if rate != "off" and not _RATE.fullmatch(rate):
            raise ValueError(
                "must be off, or requests and seconds like 600/60s, which is 600 requests of a key in 60 seconds: both "
                "whole numbers from 1, at most 1000000000 requests and 99999 seconds"
            )
        return rate

    @field_validator("rate_limit_storage")
    @classmethod
    def _is_redis(cls, url: SecretStr | None) -> SecretStr | None:
        # What it holds is not said back, as with the database.
        if url is not None and not _REDIS_URL.fullmatch(url.get_secret_value()):
            raise ValueError(
                "must be like redis://:secret@redis.example.com:6379/0, or rediss:// for TLS; in the password, write "
                "/ as %2F, ? as %3F, # as %23 and @ as %40"
            )
        return url

    @field_validator("public_url")
    @classmethod
    def _is_public(cls, url: str | None) -> str | None:
        if url is None:
            return None
        # Characters that need no escape in a path, and no segment that a client would take out (`..`).
        if not re.fullmatch(
            r"https?://([\w-]+(\.[\w-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?(/(?!\.{1,2}(/|$))[\w.~-]+)*/?",
            url,
            re.ASCII | re.IGNORECASE,
        ):
            raise ValueError(
                "must be like https://tags.example.com or https://example.com/polytag: http or https, without query, "
                "fragment or credentials, the path of letters, digits and - . _ ~"
            )
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("must have a port that can be reached")
        return parts._replace(netloc=parts.netloc.lower(), path=parts.path.removesuffix("/")).geturl()

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_networks(cls, addresses: str) -> str:
        given = [address.strip() for address in addresses.split(",") if address.strip()]
        if given == ["*"]:
            return "*"
        for address in given:
            try:
                ip_network(address)
            except ValueError as error:
                raise ValueError(f"must be addresses, networks or a single *, with commas between: {error}") from None
        return ",".join(given)
