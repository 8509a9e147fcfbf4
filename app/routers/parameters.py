"""Query and path parameters that several native routes share, and the links that lists and new objects carry."""

from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from pydantic import WithJsonSchema

from app.dependencies import Tags
from app.errors import FieldError, InvalidInput
from app.logs import shown
from app.pagination import Page
from app.schemas.base import RAW_LENGTH_FACTOR, Slug, Text
from app.schemas.fields import CONTACT_ID, KEY_ID, TAG_ID
from app.values import SLUG_MAX_LENGTH, slugify

AudienceParam = Annotated[
    Slug | None,
    Query(
        description="Slug of the audience that the call works in. Left out: the key's default audience.",
        examples=["newsletter"],
    ),
]
AnyAudienceParam = Annotated[
    Literal["*"] | Slug | None,
    Query(
        description="Slug of the audience that the call works in, or `*` for all of them. Left out: the key's default "
        "audience; all of them where it has none.",
        examples=["newsletter"],
    ),
]
OnMissingParam = Annotated[
    Literal["error", "skip"],
    Query(
        description="When a contact is unknown or no member of the tag's audience. `error`: nothing is written, and "
        "the answer is 422. `skip`: the others are done, and it is listed."
    ),
]
CreateMissingParam = Annotated[
    bool, Query(description="Whether a name that means no tag makes one. With false it is an error.")
]
IncludeTotalParam = Annotated[
    bool, Query(description="Count the whole list, which takes longer. Without it the total is null.")
]

AudienceSlugParam = Annotated[Text, Path(description="Slug of an audience.", examples=["newsletter"])]
ContactIdParam = Annotated[UUID, Path(description="Id of a contact.", examples=[CONTACT_ID])]
KeyIdParam = Annotated[UUID, Path(description="Id of an API key; not the key itself.", examples=[KEY_ID])]


async def _tag_id(
    tag_id: Annotated[UUID, Path(description="Id of a tag.", examples=[TAG_ID])],
    tags: Tags,
    audience: Annotated[
        Slug | None,
        Query(
            description="Slug of the audience that the tag must belong to, else 422. Left out: any.",
            examples=["newsletter"],
        ),
    ] = None,
) -> UUID:
    """A tag's id in a path. An audience beside it needs not be named; if it is, it must be the tag's."""
    if audience is not None:
        await tags.check_audience(tag_id, audience)
    return tag_id


TagIdDep = Annotated[UUID, Depends(_tag_id)]


async def _slug(
    slug: Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "maxLength": SLUG_MAX_LENGTH * RAW_LENGTH_FACTOR,
                "examples": ["vip"],
            }
        ),
        Path(description="Slug of a tag. It is brought into a slug's form: `VIP Gold` means `vip-gold`."),
    ],
) -> str:
    """A slug in a path, brought into a slug's form: `VIP%20Gold` means `vip-gold`."""
    # A longer one is no slug, and normalising it might take long.
    slugified = slugify(slug) if len(slug) <= SLUG_MAX_LENGTH * RAW_LENGTH_FACTOR else ""
    if not slugified:
        raise InvalidInput(
            [FieldError(("path", "slug"), "invalid_slug", f"{shown(slug)} has nothing that a slug is made of.")]
        )
    return slugified


SlugDep = Annotated[str, Depends(_slug)]


# The headers below, as the OpenAPI document has them.
LINKED: dict[str, Any] = {"headers": {"Link": {"$ref": "#/components/headers/Link"}}}
LOCATED: dict[str, Any] = {"headers": {"Location": {"$ref": "#/components/headers/Location"}}}

# Parameters that may be repeated.
_LISTS = frozenset({"ids", "tags_all", "tags_any", "tags_none"})


def link_next(request: Request, response: Response, page: Page[object]) -> None:
    """`Link: <…>; rel="next"` (RFC 8288), to the same list with the next cursor, where there is a next page."""
    if page.next_cursor is None:
        return
    # Of a parameter that is repeated the last one counts, unless it is a list.
    kept = [(key, value) for key, value in request.query_params.items() if key not in {"cursor", "offset", *_LISTS}]
    kept += [(key, value) for key, value in request.query_params.multi_items() if key in _LISTS]
    query = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in [*kept, ("cursor", page.next_cursor)])
    url = request.state.origin + quote(request.scope["path"])
    response.headers["Link"] = f'<{url}?{query}>; rel="next"'


def locate(request: Request, response: Response, path: str) -> None:
    """`Location` of an object that was made."""
    response.headers["Location"] = request.state.origin + request.scope.get("root_path", "") + path
