"""Buttondown's paths: tags, subscribers as far as they carry tags, and bulk actions on both."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast
from uuid import UUID

from fastapi import Header, Query, Request, Response
from pydantic import MISSING

from app.dependencies import BulkActions, ContactTags, Subscribers, TagContacts, Tags
from app.dialects.buttondown.parameters import BulkActionIdDep, IdsDep, NamedSubscriberDep, PageDep, TagIdDep, link
from app.dialects.buttondown.refusals import COLLISION_HEADER, refusal
from app.dialects.buttondown.schemas import (
    NOT_KEPT,
    READ_BY,
    STATUSES,
    BulkActionIn,
    BulkActionOut,
    BulkMetadata,
    Collision,
    SubscriberCollision,
    SubscriberIn,
    SubscriberListOut,
    SubscriberOut,
    SubscriberPatch,
    TagAnalyticsOut,
    TagIn,
    TagListOut,
    TagOut,
    TagPatch,
    broken_name_rule,
    name_key,
    total_of,
)
from app.dialects.buttondown.typeids import TAG_ID, Ids, Prefix, decode
from app.errors import Conflict, Duplicate
from app.frontend import new_router, requires
from app.logs import shown
from app.repositories.bulk_actions import Selection
from app.repositories.contact_search import NamedTag, TagFilter
from app.repositories.contact_tags import ContactTagRepository, TagRef
from app.repositories.contacts import ContactFields
from app.repositories.subscribers import Subscriber, SubscriberChange
from app.repositories.subscriptions import SubscriptionChange
from app.repositories.tags import Tag, TagFields, TagRepository
from app.values import fold, normalize_name

tags_router = new_router("tags", "Tags, their counts and analytics.")
subscribers_router = new_router("subscribers", "Subscribers, as far as they carry tags.")
bulk_actions_router = new_router("bulk actions", "Changes of many tags or subscribers at once.")

# What a filter may name, in a query.
FILTER_MAX = 200

_LINK: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "Link": {
                "description": "The URLs of the next and the previous page, those that there are, by `rel`. Left out "
                "where they make it too long for clients; `next` and `previous` of the body have them too.",
                "schema": {"type": "string"},
            }
        }
    }
}

CollisionParam = Annotated[
    Collision,
    Header(
        alias=COLLISION_HEADER,
        description="What becomes of a tag that has the name: `no_op` refuses the call, and by `overwrite` the tag "
        "takes what is sent.",
    ),
]
SubscriberCollisionParam = Annotated[
    SubscriberCollision,
    Header(
        alias=COLLISION_HEADER,
        description="What becomes of a subscriber that has the address: `no_op` and `fail` refuse the call. By `add` "
        "it takes what is sent, and is subscribed again. By `overwrite` its tags and metadata are replaced too, and "
        "one who unsubscribed, bounced or complained is refused.",
    ),
]
TagsModeParam = Annotated[
    SubscriberCollision,
    Header(
        alias=COLLISION_HEADER,
        description="By `add` the `tags` that are sent are added; by all other values they replace those that it has.",
    ),
]


@tags_router.post(
    "/v1/tags",
    status_code=201,
    response_description="The tag, which was made.",
    responses={200: {"model": TagOut, "description": "The tag, which was there and took what was sent."}},
)
@requires("tags:write", native="POST /tags", raises=(Duplicate,))
async def buttondown_create_tag(
    response: Response, tags: Tags, ids: IdsDep, body: TagIn, collision: CollisionParam = "no_op"
) -> TagOut:
    """Create a tag. A name that is taken is 400, or, by the collision header, the tag takes what is sent: 200."""
    made = await tags.create(
        cast("TagFields", body.model_dump()), on_conflict="update" if collision == "overwrite" else "error"
    )
    response.status_code = 201 if made.created else 200
    return TagOut.from_tag(made.tag, ids)


@tags_router.get("/v1/tags", response_description="A page of tags.", responses=_LINK)
@requires("tags:read", native="GET /tags")
async def buttondown_list_tags(
    request: Request,
    response: Response,
    tags: Tags,
    ids: IdsDep,
    page: PageDep,
    only: Annotated[
        list[str] | None,
        Query(
            alias="ids",
            max_length=FILTER_MAX,
            description=f"Only the tags with these ids, at most {FILTER_MAX}. Repeat it for several; what is "
            f"nobody's id matches nothing.",
            examples=[[TAG_ID]],
        ),
    ] = None,
) -> TagListOut:
    """List tags in the order in which they were made."""
    wanted = None if only is None else [tag_id for one in only if (tag_id := decode("sub_tag", one))]
    found = await tags.list(page.request(), ids=wanted, sort="created_at")
    following, preceding = link(request, response, found, page, "ids")
    return TagListOut(
        results=[TagOut.from_tag(tag, ids) for tag in found.items],
        count=total_of(found),
        next=following,
        previous=preceding,
    )


@tags_router.get("/v1/tags/{id}", response_description="The tag.")
@requires("tags:read", native="GET /tags/{tag_id}")
async def buttondown_get_tag(tags: Tags, ids: IdsDep, tag_id: TagIdDep) -> TagOut:
    """Retrieve a tag."""
    return TagOut.from_tag(await tags.get(tag_id), ids)


@tags_router.patch("/v1/tags/{id}", response_description="The tag, as it is now.")
@requires("tags:write", native="PATCH /tags/{tag_id}", raises=(Duplicate,))
async def buttondown_update_tag(tags: Tags, ids: IdsDep, tag_id: TagIdDep, body: TagPatch) -> TagOut:
    """Update a tag. Only what is given changes."""
    clears = {"description", "public_description"}
    changes = {name: value for name, value in body.model_dump().items() if value is not None or name in clears}
    return TagOut.from_tag(await tags.update(tag_id, cast("TagFields", changes)), ids)


@tags_router.delete("/v1/tags/{id}", status_code=204, response_description="The tag is gone.")
@requires("tags:write", native="DELETE /tags/{tag_id}")
async def buttondown_delete_tag(tags: Tags, tag_id: TagIdDep, _ids: IdsDep) -> None:
    """Delete a tag, and take it from all subscribers."""
    await tags.delete(tag_id)


@tags_router.get("/v1/tags/{id}/analytics", response_description="How the tag does.")
@requires("tags:read", native="GET /tags/{tag_id}/contacts")
async def buttondown_get_tag_analytics(tag_contacts: TagContacts, tag_id: TagIdDep, _ids: IdsDep) -> TagAnalyticsOut:
    """Count the subscribers that were created with the tag. The rates are 0: this service sends no mail."""
    count = await tag_contacts.count_made_with(tag_id)
    return TagAnalyticsOut(created_subscribers=count, open_rate=0.0, click_rate=0.0)


@subscribers_router.get("/v1/subscribers", response_description="A page of subscribers.", responses=_LINK)
@requires("contacts:read", "tags:read", native="GET /contacts")
async def buttondown_list_subscribers(
    request: Request,
    response: Response,
    subscribers: Subscribers,
    contact_tags: ContactTags,
    tags: Tags,
    ids: IdsDep,
    page: PageDep,
    carrying: Annotated[
        list[str] | None,
        Query(
            alias="tag",
            max_length=FILTER_MAX,
            description=f"Only those who carry this tag, by name or id. Repeat it for several, at most {FILTER_MAX}: "
            "one of them is enough.",
            examples=[["VIP"], [TAG_ID]],
        ),
    ] = None,
    not_carrying: Annotated[
        list[str] | None,
        Query(
            alias="-tag",
            max_length=FILTER_MAX,
            description="Only those who do not carry this tag, by name or id. Repeat it for several, at most "
            f"{FILTER_MAX}: none of them.",
            examples=[["Churned"]],
        ),
    ] = None,
) -> SubscriberListOut:
    """List subscribers, the newest first."""
    tag_filter = await _tag_filter(tags, carrying or [], not_carrying or [])
    found = await subscribers.list(page.request(), tags=tag_filter, include_total=True, newest_first=True)
    carried = await contact_tags.list_of_many([one.contact.id for one in found.items])
    following, preceding = link(request, response, found, page, "tag", "-tag")
    return SubscriberListOut(
        results=[SubscriberOut.from_subscriber(one, carried[one.contact.id], ids) for one in found.items],
        count=total_of(found),
        next=following,
        previous=preceding,
    )


@subscribers_router.post(
    "/v1/subscribers", status_code=201, response_description="The subscriber, which was made, or took what was sent."
)
@requires("contacts:write", "tags:write", native="POST /contacts", raises=(Duplicate,))
async def buttondown_create_subscriber(
    subscribers: Subscribers,
    contact_tags: ContactTags,
    tags: Tags,
    ids: IdsDep,
    body: SubscriberIn,
    collision: SubscriberCollisionParam = "no_op",
) -> SubscriberOut:
    """Create a subscriber. An address that is known is 400, or, by the collision header, takes what is sent."""
    given = _given(body)
    fields, refs = _fields(given), await _refs(tags, given.get("tags"))
    status = STATUSES[given["type"]] if "type" in given else None
    found: Subscriber | None
    if collision == "overwrite":
        found = await subscribers.overwrite(fields, status=status, tags=refs)
    elif collision == "add":
        change = SubscriberChange(own=SubscriptionChange(status or "subscribed"))
        found = await subscribers.upsert(fields, change, tags=refs)
    else:
        found = await subscribers.create(fields, own=SubscriptionChange(status or "subscribed"), tags=refs)
    if found is None:
        raise refusal("subscriber_suppressed", "This subscriber wants no mail, or none can reach it.")
    return await _with_tags(contact_tags, found, ids)


@subscribers_router.get("/v1/subscribers/{id_or_email}", response_description="The subscriber.")
@requires("contacts:read", "tags:read", native="GET /contacts/{contact_id}")
async def buttondown_get_subscriber(
    subscribers: Subscribers, contact_tags: ContactTags, ids: IdsDep, named: NamedSubscriberDep
) -> SubscriberOut:
    """Retrieve a subscriber."""
    return await _with_tags(contact_tags, await subscribers.get(*named), ids)


@subscribers_router.patch("/v1/subscribers/{id_or_email}", response_description="The subscriber, as it is now.")
@requires("contacts:write", "tags:write", native="PATCH /contacts/{contact_id}", raises=(Duplicate,))
async def buttondown_update_subscriber(
    subscribers: Subscribers,
    contact_tags: ContactTags,
    tags: Tags,
    ids: IdsDep,
    named: NamedSubscriberDep,
    body: SubscriberPatch,
    collision: TagsModeParam = "no_op",
) -> SubscriberOut:
    """Update a subscriber. `tags` are all that it carries then; by the collision header `add` they are added."""
    given = _given(body)
    own = SubscriptionChange(STATUSES[given["type"]]) if "type" in given else None
    before = await subscribers.get(*named)
    changed = await subscribers.update(
        before.contact.id,
        _fields(given),
        own,
        tags=await _refs(tags, given.get("tags")),
        tags_mode="add" if collision == "add" else "replace",
    )
    return await _with_tags(contact_tags, changed, ids)


@subscribers_router.delete(
    "/v1/subscribers/{id_or_email}", status_code=204, response_description="The subscriber is gone from the newsletter."
)
@requires("contacts:write", native="DELETE /contacts/{contact_id}/audiences/{slug}")
async def buttondown_delete_subscriber(subscribers: Subscribers, named: NamedSubscriberDep, _ids: IdsDep) -> None:
    """Delete a subscriber, with its tags. One that other newsletters know stays there."""
    found = await subscribers.get(*named)
    await subscribers.delete(found.contact.id)


@bulk_actions_router.post("/v1/bulk_actions", status_code=201, response_description="The bulk action, which is done.")
@requires("tags:write", native="POST /tags/{tag_id}/contacts", raises=(Conflict,))
async def buttondown_create_bulk_action(bulk_actions: BulkActions, ids: IdsDep, body: BulkActionIn) -> BulkActionOut:
    """Tag or un-tag many subscribers, or color or delete many tags. At once, all of it or nothing."""
    asked = body.metadata
    sent = {name: value for name, value in asked.model_dump().items() if name in READ_BY[body.type]}
    if body.type == "apply_tags":
        members = _selection("sub", asked)
        done = await bulk_actions.apply_tags(_tag_ids(asked), members, removes=asked.action == "remove", metadata=sent)
    elif body.type == "change_tags_colors":
        if asked.color is MISSING or asked.color is None:
            raise refusal("bulk_action_invalid_ids", "metadata.color is missing.")
        done = await bulk_actions.recolor_tags(_selection("sub_tag", asked), asked.color, metadata=sent)
    else:
        done = await bulk_actions.delete_tags(_selection("sub_tag", asked), metadata=sent)
    return BulkActionOut.from_bulk_action(done, ids)


@bulk_actions_router.get("/v1/bulk_actions/{id}", response_description="The bulk action.")
@requires("tags:read", native="GET /events")
async def buttondown_get_bulk_action(
    bulk_actions: BulkActions, ids: IdsDep, bulk_action_id: BulkActionIdDep
) -> BulkActionOut:
    """Retrieve a bulk action. It is done, and was when it was made."""
    return BulkActionOut.from_bulk_action(await bulk_actions.get(bulk_action_id), ids)


def _given(body: SubscriberIn | SubscriberPatch) -> dict[str, Any]:
    """What a body changes: null means nothing here, and what is not kept does not either."""
    return {name: value for name, value in body.model_dump().items() if value is not None and name not in NOT_KEPT}


def _fields(given: Mapping[str, Any]) -> ContactFields:
    names = {"email_address": "email", "metadata": "attributes"}
    return cast("ContactFields", {names[name]: value for name, value in given.items() if name in names})


async def _known(tags: TagRepository, named: Sequence[str]) -> dict[str, Tag]:
    """The tags that are meant, those that there are: by id where it has the form of one, else by name."""
    ids = {text: tag_id for text in named if (tag_id := decode("sub_tag", text))}
    keys = {text: key for text in named if text not in ids and (key := name_key(text))}
    found = await tags.find_many(ids=list(ids.values()), names=list(keys.values()))
    by_id, by_key = {tag.id: tag for tag in found}, {fold(tag.name): tag for tag in found}
    known = {text: by_id.get(tag_id) for text, tag_id in ids.items()}
    known |= {text: by_key.get(key) for text, key in keys.items()}
    return {text: tag for text, tag in known.items() if tag}


async def _refs(tags: TagRepository, named: Sequence[str] | None) -> list[TagRef] | None:
    """Tags by id where they have the form of one, else by name. Slugs are not of this API.

    What cannot be the name of a new tag must be that of one that there is: other front ends have other rules.
    """
    if named is None:
        return None
    ids = {text: tag_id for text in named if (tag_id := decode("sub_tag", text))}
    odd = {text: broken for text in named if text not in ids and (broken := _broken_rule(text))}
    if odd:
        ids |= {text: tag.id for text, tag in (await _known(tags, list(odd))).items()}
    refs = []
    for place, text in enumerate(named):
        if text in odd and text not in ids:
            raise refusal("tag_invalid", f"tags.{place} is no tag that there is, nor can it be one. {odd[text]}")
        tag_id = ids.get(text)
        refs.append(TagRef(("body", "tags", place), id=tag_id, name=None if tag_id else normalize_name(text)))
    return refs


def _broken_rule(text: str) -> str | None:
    """Why no new tag is made of a text that a list of tags has."""
    if text.startswith("sub_tag_"):
        # An id that was damaged on its way would make a tag of that name.
        return f"{shown(text)} begins like an id, and is none."
    broken = broken_name_rule(text)
    return broken[1] if broken else None


async def _with_tags(contact_tags: ContactTagRepository, found: Subscriber, ids: Ids) -> SubscriberOut:
    return SubscriberOut.from_subscriber(found, await contact_tags.list_of_one(found.contact.id), ids)


async def _tag_filter(tags: TagRepository, carrying: Sequence[str], not_carrying: Sequence[str]) -> TagFilter | None:
    """The filter by these tags. One that is not there must not be passed over: nobody would mean everybody."""
    named = [*carrying, *not_carrying]
    if not named:
        return None
    known = await _known(tags, named)
    if unknown := [text for text in named if text not in known]:
        raise refusal("invalid_tag", f"There is no tag {shown(unknown[0])}.")

    def resolved(texts: Sequence[str], parameter: str) -> list[NamedTag]:
        return [NamedTag(known[text].slug, ("query", parameter)) for text in texts]

    return TagFilter(any=resolved(carrying, "tag"), none=resolved(not_carrying, "-tag"))


def _tag_ids(asked: BulkMetadata) -> list[UUID]:
    listed = [*(asked.tag_ids or [] if asked.tag_ids is not MISSING else [])]
    if asked.tag_id is not MISSING and asked.tag_id is not None:
        listed.append(asked.tag_id)
    return _parsed("sub_tag", listed, "tag_ids")


def _selection(prefix: Prefix, asked: BulkMetadata) -> Selection:
    """Who is meant by `ids`. Leaving it out does not mean everybody, as it does with the vendor."""
    listed = asked.ids if asked.ids is not MISSING else None
    if listed == ["all"]:
        return Selection((), all_but=True)
    excluded = [text.removeprefix("-") for text in listed or [] if text.startswith("-")]
    if excluded and len(excluded) == len(listed or []):
        return Selection(_parsed(prefix, excluded, "ids"), all_but=True)
    return Selection(_parsed(prefix, listed or [], "ids"))


_MISSING = {
    "tag_ids": "Name the tags by their ids, or one of them by tag_id.",
    "ids": 'List ids; ["all"] means all, and ids that begin with - all but those.',
}


def _parsed(prefix: Prefix, listed: Sequence[str], field: str) -> list[UUID]:
    if not listed:
        raise refusal("bulk_action_invalid_ids", f"metadata.{field} is missing or empty. {_MISSING[field]}")
    found = [decode(prefix, text) for text in listed]
    if None in found:
        wrong = shown(listed[found.index(None)])
        like = f"{prefix}_0k28edc3fw896bp4mrhc535z5k"
        detail = f"{wrong} in metadata.{field} is no id: each must be like {like}, or each with a - in front of it."
        raise refusal("bulk_action_invalid_ids", detail)
    return [one for one in found if one is not None]
