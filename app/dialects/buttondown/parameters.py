"""What Buttondown's calls share beside their bodies: the form of ids, ids in paths, pages and their links."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import WithJsonSchema

from app.dependencies import repository
from app.dialects.buttondown.refusals import refusal, taken
from app.dialects.buttondown.typeids import (
    BULK_ACTION_ID,
    NEWSLETTER_ID,
    SUBSCRIBER_ID,
    TAG_ID,
    Ids,
    Prefix,
    decode,
)
from app.errors import Duplicate, NotFound, Unauthenticated
from app.frontend import origin_of
from app.logs import shown
from app.pagination import LIMIT_DEFAULT, LIMIT_MAX, Page, PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import Principal
from app.repositories.subscribers import SubscriberKey
from app.schemas.base import RAW_LENGTH_FACTOR
from app.values import EMAIL_MAX_LENGTH, normalize_email

# Answers have TypeIDs from this version on.
_TYPEIDS_SINCE = date(2026, 1, 1)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# No list is that long, and the database can still count it.
_OFFSET_MAX = 10**15
# Node takes 16 KiB of headers in all, and many a proxy 4 or 8.
_LINK_MAX = 4096


CONTEXT_PARAMETER: Mapping[str, object] = {
    "name": "Buttondown-Context",
    "in": "header",
    "required": False,
    "description": "Id of the newsletter that the call is about, a UUID or `news_…`: of any audience of the "
    "key's workspace. Left out, it is the key's own, and a key that has none needs it.",
    "schema": {"type": "string", "examples": [NEWSLETTER_ID]},
}


async def read_context(request: Request, principal: Principal) -> Principal:
    """The key's own newsletter, or the one that `Buttondown-Context` names: another audience of the workspace."""
    context = request.headers.get("buttondown-context")
    if context is None:
        return principal
    newsletter_id = decode("news", context.strip())
    audiences = await repository(AudienceRepository)(request)
    newsletter = None if newsletter_id is None else await audiences.find_by_id(newsletter_id)
    if newsletter is None:
        raise Unauthenticated(
            "invalid",
            "The header Buttondown-Context must be the id of a newsletter: of an audience of the key's workspace.",
        )
    return replace(principal, audience=newsletter.slug)


async def _ids(
    request: Request,
    version: Annotated[
        str | None,
        Header(
            alias="X-API-Version",
            description=f"A date, by which the nearest version counts. Before {_TYPEIDS_SINCE} answers have ids "
            "that are plain UUIDs; from then on, and without the header, TypeIDs like `sub_tag_…`.",
        ),
        WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-04-01"]}),
    ] = None,
) -> AsyncIterator[Ids]:
    ids = Ids(as_uuids=version is not None and _date(version) < _TYPEIDS_SINCE)
    try:
        yield ids
    except Duplicate as error:
        # Here, since an error that names an id has to name it in the form of this call.
        raise taken(error, ids, creates=request.method == "POST") from error


IdsDep = Annotated[Ids, Depends(_ids, scope="function")]


def _date(version: str) -> date:
    try:
        # The other forms of ISO 8601 are no versions.
        return date.fromisoformat(version if _DATE.fullmatch(version) else "")
    except ValueError:
        detail = f"X-API-Version must be a date like 2026-04-01, not {shown(version)}."
        raise refusal("api_version_invalid", detail) from None


def _id_in_path(prefix: Prefix, resource: str, text: str) -> UUID:
    # What is no id at all is answered as one that is nobody's.
    found = decode(prefix, text)
    if found is None:
        raise NotFound(resource, shown(text))
    return found


async def _tag_id(
    tag_id: Annotated[str, Path(alias="id", description="Id of the tag, a TypeID or a UUID.", examples=[TAG_ID])],
) -> UUID:
    return _id_in_path("sub_tag", "tag", tag_id)


async def _bulk_action_id(
    bulk_action_id: Annotated[
        str, Path(alias="id", description="Id of the bulk action, a TypeID or a UUID.", examples=[BULK_ACTION_ID])
    ],
) -> UUID:
    return _id_in_path("bulk_action", "bulk action", bulk_action_id)


TagIdDep = Annotated[UUID, Depends(_tag_id)]
BulkActionIdDep = Annotated[UUID, Depends(_bulk_action_id)]


async def _named_subscriber(
    id_or_email: Annotated[
        str,
        Path(
            description="Id of the subscriber, a TypeID or a UUID, or its email address. One with a slash is "
            "found by id only.",
            examples=[SUBSCRIBER_ID, "ada@example.com"],
        ),
    ],
) -> tuple[SubscriberKey, UUID | str]:
    if "@" not in id_or_email:
        return "id", _id_in_path("sub", "contact", id_or_email)
    # Normalising takes time by the square of the combining marks in a row, so a long text is not looked at.
    if len(id_or_email) <= RAW_LENGTH_FACTOR * EMAIL_MAX_LENGTH:
        try:
            return "email", normalize_email(id_or_email)
        except ValueError:
            pass
    raise NotFound("contact", shown(id_or_email))


NamedSubscriberDep = Annotated[tuple[SubscriberKey, UUID | str], Depends(_named_subscriber)]


@dataclass(frozen=True, slots=True)
class PageNumber:
    """Which page is wanted, from 1, and how long pages are."""

    number: int
    size: int

    def request(self) -> PageRequest:
        """The part of the list that this page is."""
        return PageRequest(self.size, min((self.number - 1) * self.size, _OFFSET_MAX))


async def _page(
    page: Annotated[
        int, Query(description="The number of the page, from 1. Anything below means the first.", examples=[1])
    ] = 1,
    page_size: Annotated[
        int, Query(ge=1, le=LIMIT_MAX, description="The most items that a page has.", examples=[100])
    ] = LIMIT_DEFAULT,
) -> PageNumber:
    return PageNumber(max(page, 1), page_size)


PageDep = Annotated[PageNumber, Depends(_page)]


def link(
    request: Request, response: Response, page: Page[object], at: PageNumber, *filters: str
) -> tuple[str | None, str | None]:
    """The absolute URLs of the next and the previous page, which are put into `Link`, too.

    They repeat these filters; where those make the header too long for clients, the body alone has the links. Before
    a page behind the end comes the last one that there is.
    """
    query = [(key, value) for key, value in request.query_params.multi_items() if key in filters]
    last = max(1, -(-(page.total or 0) // at.size))
    following = _url(request, query, at.number + 1, at.size) if page.next_cursor is not None else None
    preceding = _url(request, query, min(at.number - 1, last), at.size) if at.number > 1 else None
    links = [(following, "next"), (preceding, "prev")]
    header = ", ".join(f'<{url}>; rel="{rel}"' for url, rel in links if url)
    if 0 < len(header) <= _LINK_MAX:
        response.headers["Link"] = header
    return following, preceding


def _url(request: Request, query: list[tuple[str, str]], number: int, size: int) -> str:
    sent = [*query, ("page", str(number)), ("page_size", str(size))]
    text = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in sent)
    return f"{origin_of(request)}{quote(request.scope['path'])}?{text}"
