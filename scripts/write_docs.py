"""Writes what the docs say of settings, calls, errors and limits, from the code that says so. `make docs` runs it.

docs/configuration.md is written whole; in docs/api.md and docs/dialects what stands between a pair of markers.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from annotated_types import Ge, Gt, Le
from pydantic_core import PydanticUndefined

from app import pagination, values
from app.bodies import JSON_MAX_CONTAINERS, JSON_MAX_DEPTH
from app.config import Settings
from app.errors import FIELD_CODES
from app.frontend import LISTED_ERRORS_MAX, QUERY_MAX_BYTES, QUERY_PARAMETERS_MAX, FrontEnd, Route, terms_of
from app.main import DIALECTS
from app.protocol import HEAD_MAX_BYTES, HEAD_SECONDS, HEADERS_MAX
from app.repositories.events import IDS_PER_EVENT
from app.routers import NATIVE, problems
from app.routers.preconditions import CONDITION_MAX_LENGTH
from app.schemas import contact_search, contacts, tags
from app.schemas.assignments import TAGS_MAX as TAGS_OF_CONTACT_MAX

ROOT = Path(__file__).parent.parent


def configuration() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Every setting is an environment variable. `polytag serve --help` shows those that are options too; an option",
        "wins over its variable. Seconds may have a fraction.",
        "",
        "| variable | default | what it is |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory else _shown(field.default)
        limits = _limits_of(field.metadata)
        lines.append(
            f"| `POLYTAG_{name.upper()}` | {default} | {_cell(field.description or '')}{limits and f' {limits}.'} |"
        )
    return "\n".join(lines) + "\n"


def _shown(default: object) -> str:
    if default is None or default is PydanticUndefined or default == "":
        return ""
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _limits_of(metadata: list[Any]) -> str:
    least = next((f"at least {one.ge:,}" for one in metadata if isinstance(one, Ge)), "")
    least = next((f"more than {one.gt:,}" for one in metadata if isinstance(one, Gt)), least)
    most = next((f"at most {one.le:,}" for one in metadata if isinstance(one, Le)), "")
    text = ", ".join(part for part in (least, most) if part)
    return text[:1].upper() + text[1:]


def calls() -> str:
    """Every call of the native API, with the scopes it needs and its largest body."""
    lines = ["| call | scopes | what it does |", "|---|---|---|"]
    bulk = []
    for router in NATIVE.routers:
        for route in router.routes:
            assert isinstance(route, Route)
            [method] = route.methods or set[str]()
            terms = terms_of(route.endpoint)
            scopes = ", ".join(f"`{scope}`" for scope in terms.scopes or ())
            needs = "no key" if terms.scopes is None else scopes or "any key"
            does = " ".join((route.endpoint.__doc__ or "").split("\n\n")[0].split())
            lines.append(f"| `{method} {route.path}` | {needs} | {_cell(does)} |")
            bulk += [f"`{method} {route.path}`"] if terms.bulk else []
    default, large = (Settings.model_fields[name].default for name in ("max_body_bytes", "max_bulk_body_bytes"))
    lines += ["", f"A body has at most {default:,} bytes; that of {', '.join(bulk)} {large:,}. Both are settings."]
    return "\n".join(lines)


def errors() -> str:
    """Every code of a problem with its status, and every code of a field."""
    lines = ["| status | code | title |", "|---|---|---|"]
    lines += [f"| {status} | `{code}` | {_cell(title)} |" for status, code, title in sorted(problems.CODES)]
    lines += ["", "| code of a field | what is wrong with the value |", "|---|---|"]
    lines += [f"| `{code}` | {_cell(meaning)} |" for code, meaning in FIELD_CODES.items()]
    return "\n".join(lines)


def limits() -> str:
    """Every limit, from the constant that enforces it."""
    rows: list[tuple[str, int, str]] = [
        ("items of a page (`limit`)", pagination.LIMIT_MAX, f"{pagination.LIMIT_DEFAULT} if left out"),
        ("`offset`", pagination.OFFSET_MAX, "further on by `cursor`"),
        ("a tag's name", values.NAME_MAX_LENGTH, "characters, after normalising (NFC) and trimming"),
        ("a slug", values.SLUG_MAX_LENGTH, "characters"),
        ("a description, a public description", values.DESCRIPTION_MAX_LENGTH, "characters"),
        ("`secondary_id`", values.SECONDARY_ID_MAX, "from 1"),
        ("an email", values.EMAIL_MAX_LENGTH, "characters"),
        ("`external_id`", values.EXTERNAL_ID_MAX_LENGTH, "characters"),
        ("a first name, a last name", values.PERSON_NAME_MAX_LENGTH, "characters"),
        ("a contact's attributes", values.ATTRIBUTES_MAX_BYTES, "bytes of JSON"),
        ("contacts named in one call on a tag", tags.CONTACTS_MAX, "counted before repeats collapse"),
        ("tags named in one call on a contact", TAGS_OF_CONTACT_MAX, "counted before repeats collapse"),
        ("tags in `POST /tags/batch`", tags.BATCH_MAX, ""),
        ("contacts in `POST /contacts/batch`", contacts.BATCH_MAX, ""),
        ("tags, audiences of one contact there", contacts.TAGS_MAX, f"audiences: {contacts.AUDIENCES_MAX}"),
        (
            "tags that a filter names",
            contact_search.FILTER_TAGS_MAX,
            "in all; in a query, in each of the three lists",
        ),
        ("filters in one another", contact_search.FILTER_DEPTH_MAX, "deep"),
        ("ids in `added` or `removed` of one event", IDS_PER_EVENT, "larger changes are several events"),
        ("JSON in one another", JSON_MAX_DEPTH, "deep"),
        ("`If-Match`, `If-None-Match`", CONDITION_MAX_LENGTH, "characters; a longer `If-None-Match` is ignored"),
        ("lists and objects in one body", JSON_MAX_CONTAINERS, "(400 `unreadable_body` beyond)"),
        ("a query", QUERY_MAX_BYTES, "bytes, as they are sent"),
        ("parameters of a query", QUERY_PARAMETERS_MAX, "repeats included"),
        ("request line and headers together", HEAD_MAX_BYTES, "bytes (431 beyond)"),
        ("headers of a request", HEADERS_MAX, "(431 beyond)"),
        ("request line and headers", HEAD_SECONDS, "seconds from the first byte to the last (408 beyond)"),
        ("errors listed in one problem", LISTED_ERRORS_MAX, "the first ones"),
    ]
    lines = ["| what | at most | |", "|---|---|---|"]
    lines += [f"| {what} | {most:,} | {unit} |" for what, most, unit in rows]
    return "\n".join(lines)


def dialect_calls(dialect: FrontEnd) -> str:
    """Every call of a dialect, with the scopes it needs and the native call that does the same."""
    lines = [f"| call, below `{dialect.mount}` | scopes | what it does | natively |", "|---|---|---|---|"]
    for router in dialect.routers:
        for route in router.routes:
            assert isinstance(route, Route)
            [method] = route.methods or set[str]()
            terms = terms_of(route.endpoint)
            scopes = ", ".join(f"`{scope}`" for scope in terms.scopes or ()) or "no key"
            does = " ".join((route.endpoint.__doc__ or "").split("\n\n")[0].split())
            native = f"`{terms.native}`" if terms.native else ""
            lines.append(f"| `{method} {route.path_format}` | {scopes} | {_cell(does)} | {native} |")
    return "\n".join(lines)


API_BLOCKS = {"calls": calls, "errors": errors, "limits": limits}


def with_blocks(path: Path, blocks: Mapping[str, Callable[[], str]]) -> str:
    """A document with its blocks written anew."""
    text = path.read_text(encoding="utf-8")
    for name, write in blocks.items():
        begin, end = f"<!-- begin {name}, by make docs -->", f"<!-- end {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"{path.name} must have one block between {begin} and {end}")
        block = f"{begin}\n\n{write()}\n\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)  # type: ignore[misc]
    return text


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def documents() -> dict[Path, str]:
    """Each file that is written, and what shall be in it."""
    docs = ROOT / "docs"
    written = {docs / "configuration.md": configuration(), docs / "api.md": with_blocks(docs / "api.md", API_BLOCKS)}
    for dialect in DIALECTS:
        path = docs / "dialects" / f"{dialect.slug}.md"
        written[path] = with_blocks(path, {"calls": partial(dialect_calls, dialect)})
    return written


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
