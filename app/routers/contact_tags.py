"""The tags of a contact: list, add, replace, remove, and one at a time by slug."""

from collections.abc import Sequence
from typing import Any

from fastapi import Response

from app.dependencies import ContactTags
from app.frontend import new_router, requires
from app.repositories.contact_tags import ChangedTags, TagChange, TagRef, etag_of
from app.routers.parameters import AnyAudienceParam, AudienceParam, ContactIdParam, CreateMissingParam, SlugDep
from app.routers.preconditions import IfMatchParam, IfNoneMatchParam, answer_304, put_etag
from app.schemas.assignments import (
    ContactTagChange,
    ContactTagList,
    ContactTagRead,
    TagsNamed,
    TagsPatch,
    TagsPut,
)

router = new_router("contact tags", "The tags of a contact: list, add, replace, remove.")

CHANGED = "The tags that it carries now, and what the call did."


@router.get("/contacts/{contact_id}/tags", response_model=ContactTagList, response_description="The tags.")
@requires("tags:read")
async def list_contact_tags(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    copies: IfNoneMatchParam = None,
    audience: AnyAudienceParam = None,
) -> ContactTagList | Response:
    """List the tags that a contact carries, by slug."""
    found = await contact_tags.list(contact_id, audience=audience)
    return answer_304(response, etag_of(found), copies) or ContactTagList(
        data=[ContactTagRead.model_validate(tag) for tag in found]
    )


@router.post("/contacts/{contact_id}/tags", response_description=CHANGED)
@requires("tags:write")
async def add_contact_tags(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    body: TagsNamed,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
    create_missing: CreateMissingParam = True,
) -> ContactTagChange:
    """Give tags to a contact. Those that it carries stay."""
    change = TagChange(contact_id, add=_refs(body.model_dump()))
    changed = await contact_tags.change(change, audience=audience, create_missing=create_missing, if_match=if_match)
    return _shape(response, changed)


@router.put("/contacts/{contact_id}/tags", response_description=CHANGED)
@requires("tags:write")
async def replace_contact_tags(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    body: TagsPut,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
    create_missing: CreateMissingParam = True,
) -> ContactTagChange:
    """Make a contact carry these tags of the audience, and no others. Tags of other audiences are left alone."""
    change = TagChange(contact_id, add=_refs(body.model_dump()), replace=True)
    changed = await contact_tags.change(change, audience=audience, create_missing=create_missing, if_match=if_match)
    return _shape(response, changed)


@router.delete("/contacts/{contact_id}/tags", response_description=CHANGED)
@requires("tags:write")
async def remove_contact_tags(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    body: TagsNamed,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
) -> ContactTagChange:
    """Take tags from a contact. Those that it does not carry are no error; neither are names that mean no tag."""
    change = TagChange(contact_id, remove=_refs(body.model_dump()))
    changed = await contact_tags.change(change, audience=audience, if_match=if_match)
    return _shape(response, changed)


@router.patch("/contacts/{contact_id}/tags", response_description=CHANGED)
@requires("tags:write")
async def update_contact_tags(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    body: TagsPatch,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
    create_missing: CreateMissingParam = True,
) -> ContactTagChange:
    """Add and remove tags of a contact in one step. Nobody ever sees the one without the other."""
    given = body.model_dump()
    change = TagChange(
        contact_id,
        add=_refs({name: given[name] for name in ("add", "add_ids") if name in given}),
        remove=_refs({name: given[name] for name in ("remove", "remove_ids") if name in given}),
    )
    changed = await contact_tags.change(change, audience=audience, create_missing=create_missing, if_match=if_match)
    return _shape(response, changed)


@router.get("/contacts/{contact_id}/tags/{slug}", response_description="The tag, and since when.")
@requires("tags:read")
async def get_contact_tag(
    contact_tags: ContactTags, contact_id: ContactIdParam, slug: SlugDep, audience: AudienceParam = None
) -> ContactTagRead:
    """Get a tag that a contact carries. 404 if it does not."""
    return ContactTagRead.model_validate(await contact_tags.get(contact_id, slug, audience=audience))


@router.put("/contacts/{contact_id}/tags/{slug}", response_description=CHANGED)
@requires("tags:write")
async def add_contact_tag(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    slug: SlugDep,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
    create_missing: CreateMissingParam = True,
) -> ContactTagChange:
    """Give a contact one tag. A slug that means no tag makes one, named after it."""
    change = TagChange(contact_id, add=[TagRef.by_slug(slug, ("path", "slug"))])
    changed = await contact_tags.change(change, audience=audience, create_missing=create_missing, if_match=if_match)
    return _shape(response, changed)


@router.delete("/contacts/{contact_id}/tags/{slug}", response_description=CHANGED)
@requires("tags:write")
async def remove_contact_tag(
    response: Response,
    contact_tags: ContactTags,
    contact_id: ContactIdParam,
    slug: SlugDep,
    if_match: IfMatchParam = None,
    audience: AudienceParam = None,
) -> ContactTagChange:
    """Take one tag from a contact. No error when it does not carry it."""
    change = TagChange(contact_id, remove=[TagRef.by_slug(slug, ("path", "slug"))])
    changed = await contact_tags.change(change, audience=audience, if_match=if_match)
    return _shape(response, changed)


def _refs(given: dict[str, list[Any]]) -> Sequence[TagRef]:
    """The tags named in these fields of the body: ids where the field's name says so, else names."""
    return [
        TagRef(("body", field, place), id=value)
        if field.endswith("_ids")
        else TagRef.by_name(value, ("body", field, place))
        for field, values in given.items()
        for place, value in enumerate(values)
    ]


def _shape(response: Response, changed: ChangedTags) -> ContactTagChange:
    put_etag(response, etag_of(changed.tags))
    return ContactTagChange(
        data=[ContactTagRead.model_validate(tag) for tag in changed.tags], added=changed.added, removed=changed.removed
    )
