"""Which contacts there are: lists, and filters by tags."""

from typing import Annotated, Literal

from fastapi import Query, Request, Response

from app.dependencies import ContactSearch, ContactTags, PageDep, PrincipalDep, demand
from app.frontend import new_router, requires
from app.pagination import Page
from app.repositories.contact_search import NamedTag, TagFilter
from app.repositories.contact_tags import ContactTagRepository
from app.repositories.contacts import Contact
from app.routers.parameters import LINKED, AnyAudienceParam, AudienceParam, IncludeTotalParam, link_next
from app.schemas.assignments import ContactTagRead
from app.schemas.base import Email, ExternalId, Slug, Text
from app.schemas.contact_search import (
    FILTER_TAGS_MAX,
    ContactCount,
    ContactFilter,
    ContactFound,
    ContactList,
    ContactQuery,
)
from app.schemas.contacts import ContactRead
from app.schemas.pagination import Pagination
from app.values import EMAIL_MAX_LENGTH

router = new_router("contacts", "Contacts: people with an email, in audiences, with attributes of your own.")

SlugsParam = Annotated[list[Slug] | None, Query(min_length=1, max_length=FILTER_TAGS_MAX)]
ExpandParam = Annotated[
    Literal["tags"] | None,
    Query(description="`tags` shows with each contact those that it carries, up to 10,000 in a page. Left out: none."),
]


@router.get("/contacts", response_description="A page of contacts.", responses={200: LINKED})
@requires("contacts:read")
async def list_contacts(
    request: Request,
    response: Response,
    contacts: ContactSearch,
    contact_tags: ContactTags,
    principal: PrincipalDep,
    page: PageDep,
    audience: AnyAudienceParam = None,
    search: Annotated[
        Text | None,
        Query(
            max_length=EMAIL_MAX_LENGTH,
            description="Only contacts whose email begins with this, in any case.",
            examples=["ada@"],
        ),
    ] = None,
    email: Annotated[
        Email | None, Query(description="Only the contact with this email, in any case.", examples=["ada@example.com"])
    ] = None,
    external_id: Annotated[
        ExternalId | None, Query(description="Only the contact with this id of yours.", examples=["crm-1042"])
    ] = None,
    tags_all: Annotated[
        SlugsParam,
        Query(
            description="Only contacts that carry each of these tags. Slugs; repeat it: `tags_all=a&tags_all=b`.",
            examples=[["vip"]],
        ),
    ] = None,
    tags_any: Annotated[
        SlugsParam,
        Query(
            description="Only contacts that carry one of these tags at least. Slugs; repeat it.",
            examples=[["vip", "beta-tester"]],
        ),
    ] = None,
    tags_none: Annotated[
        SlugsParam,
        Query(description="Only contacts that carry none of these tags. Slugs; repeat it.", examples=[["churned"]]),
    ] = None,
    expand: ExpandParam = None,
    include_total: IncludeTotalParam = False,
) -> ContactList:
    """List the members of an audience by id, or by email with `search`. All contacts for `*`, or if none is in force.

    Filters by tags, and `expand`, need the scope `tags:read` too.
    """
    slugs = {"all": tags_all, "any": tags_any, "none": tags_none}
    given = {key: [NamedTag(slug, ("query", f"tags_{key}")) for slug in named] for key, named in slugs.items() if named}
    if given or expand:
        demand(principal, "tags:read")
    found = await contacts.list(
        page,
        audience=audience,
        search=search,
        email=email,
        external_id=external_id,
        tags=TagFilter(**given) if given else None,
        include_total=include_total,
    )
    link_next(request, response, found)
    return await _shape(found, contact_tags if expand else None, audience)


@router.post("/contacts/search", response_description="A page of contacts, or with `count_only` their number.")
@requires("contacts:read", "tags:read")
async def search_contacts(
    contacts: ContactSearch,
    contact_tags: ContactTags,
    page: PageDep,
    body: ContactQuery,
    audience: AudienceParam = None,
    expand: ExpandParam = None,
    include_total: IncludeTotalParam = False,
) -> ContactList | ContactCount:
    """Find the members of an audience whom a filter of tags means, by id; or only their number."""
    tags = _filter(body.filter, ("body", "filter"))
    if body.count_only is True:
        return ContactCount(count=await contacts.count(tags, audience=audience))
    found = await contacts.list(page, audience=audience, tags=tags, include_total=include_total)
    return await _shape(found, contact_tags if expand else None, audience)


def _filter(body: ContactFilter, place: tuple[str | int, ...]) -> TagFilter:
    return TagFilter(
        **{
            key: [
                NamedTag(item, (*place, key, n)) if isinstance(item, str) else _filter(item, (*place, key, n))
                for n, item in enumerate(getattr(body, key))
            ]
            for key in body.model_fields_set
        }
    )


async def _shape(found: Page[Contact], contact_tags: ContactTagRepository | None, audience: str | None) -> ContactList:
    """The page, with each contact's tags where a repository for them is given."""
    if contact_tags is None:
        data = [ContactFound.model_validate(one) for one in found.items]
    else:
        tags = await contact_tags.list_of_many([one.id for one in found.items], audience=audience)
        data = [
            ContactFound(
                **ContactRead.model_validate(one).model_dump(),
                tags=[ContactTagRead.model_validate(tag) for tag in tags[one.id]],
            )
            for one in found.items
        ]
    return ContactList(data=data, pagination=Pagination.of(found))
