"""A repository that is born with one audience knows no tag of another one, whichever verb is asked for it by its id."""

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from app.database import statement_log
from app.errors import AppError, Conflict, InvalidInput, NotFound
from app.pagination import Page, PageRequest
from app.repositories.audiences import AudienceRepository
from app.repositories.base import AnyRepository, Repository
from app.repositories.bulk_actions import BulkActionRepository, Selection
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.tag_contacts import ContactField, ContactRefs, TagContactRepository
from app.repositories.tags import Tag, TagFields, TagRepository
from tests.conftest import Workspace
from tests.routers.calls import RANDOM_ID, run, state_of

Kind: TypeAlias = type[TagRepository] | type[TagContactRepository]

# Whatever a parameter is called that takes the id of a tag, or several.
TAG_PARAMETERS = {"tag_id", "tag_ids", "ids"}


@dataclass(frozen=True)
class Case:
    """A call of a verb with the id of a tag, in one of the ways in which it can be called."""

    kind: Kind
    verb: str
    call: Callable[[Any, UUID], Awaitable[object]]
    way: str = ""
    changes: bool = True
    # Whether it is answered with a list, on which there is nobody, and not with an error.
    filters: bool = False

    def __str__(self) -> str:
        return f"{self.kind.__name__}.{self.verb} {self.way}".rstrip()


def tags(verb: str, call: Callable[[TagRepository, UUID], Awaitable[object]], way: str = "", **options: bool) -> Case:
    return Case(TagRepository, verb, call, way, **options)


def contacts(
    verb: str, call: Callable[[TagContactRepository, UUID], Awaitable[object]], way: str = "", **options: bool
) -> Case:
    return Case(TagContactRepository, verb, call, way, **options)


# Of the four members the first two carry each tag.
NAMED: dict[ContactField, Sequence[str]] = {
    "emails": ["C1@example.com", "c2@example.com"],
    "external_ids": ["c1", "c2"],
}
DESCRIBED: TagFields = {"description": "described"}


def with_contacts(refs: ContactRefs) -> list[Case]:
    field = refs.field
    return [
        contacts("assign", lambda repository, tag_id: repository.assign(tag_id, refs), field),
        contacts("replace", lambda repository, tag_id: repository.replace(tag_id, refs), field),
        contacts("unassign", lambda repository, tag_id: repository.unassign(tag_id, refs), field),
        contacts(
            "assign",
            lambda repository, tag_id: repository.assign(tag_id, refs, on_missing="skip"),
            f"{field}, those that there are",
        ),
        contacts(
            "replace",
            lambda repository, tag_id: repository.replace(tag_id, refs, on_missing="skip"),
            f"{field}, those that there are",
        ),
    ]


def by_ids(verb: str) -> Case:
    """The same contacts, named by the ids that they have in this workspace."""

    async def call(repository: TagContactRepository, tag_id: UUID) -> object:
        rows = await run(
            repository._database,
            "select id from contacts where workspace_id = :workspace_id and external_id = any(:named) order by id",
            workspace_id=repository._principal.workspace_id,
            named=NAMED["external_ids"],
        )
        answered: object = await getattr(repository, verb)(
            tag_id, ContactRefs("contact_ids", [row["id"] for row in rows])
        )
        return answered

    return contacts(verb, call, "contact_ids")


async def found(repository: TagRepository, tag_id: UUID) -> Page[Tag]:
    tags = await repository.find_many(ids=[tag_id], names=[])
    return Page(tags, PageRequest(), len(tags), None)


CASES = [
    tags("list", lambda repository, tag_id: repository.list(PageRequest(), ids=[tag_id]), changes=False, filters=True),
    tags("find_many", found, changes=False, filters=True),
    tags("get", lambda repository, tag_id: repository.get(tag_id), changes=False),
    tags("check_audience", lambda repository, tag_id: repository.check_audience(tag_id, "newsletter"), changes=False),
    tags("update", lambda repository, tag_id: repository.update(tag_id, DESCRIBED)),
    tags("update", lambda repository, tag_id: repository.update(tag_id, {}), "with nothing", changes=False),
    tags("delete", lambda repository, tag_id: repository.delete(tag_id)),
    tags("delete", lambda repository, tag_id: repository.delete(tag_id, if_unused=True), "if unused", changes=False),
    contacts("list", lambda repository, tag_id: repository.list(tag_id, PageRequest(1)), changes=False),
    contacts(
        "list",
        lambda repository, tag_id: repository.list(
            tag_id, PageRequest(), assigned_after=datetime(2020, 1, 1, tzinfo=UTC), include_total=True
        ),
        "with a filter",
        changes=False,
    ),
    contacts("count_made_with", lambda repository, tag_id: repository.count_made_with(tag_id), changes=False),
    *(case for field, values in NAMED.items() for case in with_contacts(ContactRefs(field, values))),
    *(by_ids(verb) for verb in ("assign", "replace", "unassign")),
    contacts("replace", lambda repository, tag_id: repository.replace(tag_id, ContactRefs("emails", [])), "nobody"),
]


def verbs_that_take_a_tag() -> set[tuple[Kind, str]]:
    kinds: tuple[Kind, ...] = (TagRepository, TagContactRepository)
    return {
        (kind, name)
        for kind in kinds
        for name, verb in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and TAG_PARAMETERS & inspect.signature(verb).parameters.keys()
    }


def test_no_verb_is_left_out() -> None:
    assert {(case.kind, case.verb) for case in CASES} == verbs_that_take_a_tag()


@dataclass(frozen=True)
class Town:
    """Two tags of the newsletter and one of the courses, alike but for their audience."""

    workspace: Workspace
    own: UUID
    twin: UUID
    other: UUID

    def native(self, kind: type[AnyRepository]) -> AnyRepository:
        return self.workspace.repository(kind)

    def limited(self, kind: type[AnyRepository], audience: str = "newsletter") -> AnyRepository:
        workspace = self.workspace
        return kind(
            workspace.database, workspace.principal, front_end="test", request_id="test", only_audience=audience
        )


@pytest.fixture
async def town(workspace: Workspace) -> Town:
    await workspace.repository(AudienceRepository).create("courses", "Courses")
    new = [
        NewContact({"email": f"c{n}@example.com", "external_id": f"c{n}"}, ["newsletter", "courses"]) for n in range(4)
    ]
    await workspace.repository(ContactUpsertRepository).upsert(new)
    repository = workspace.repository(TagContactRepository)
    carriers = ContactRefs("external_ids", ["c0", "c1"])
    made = [
        await repository.create_tag({"name": name}, carriers, audience=audience)
        for name, audience in (("own", "newsletter"), ("twin", "newsletter"), ("other", "courses"))
    ]
    return Town(workspace, *(found.tag.id for found in made))


async def answer(case: Case, repository: Repository, tag_id: UUID) -> tuple[object, list[str]]:
    """What comes of a call, an error too, without the id in it, and the names of the statements that it ran."""
    ran: list[str] = []
    token = statement_log.set(ran)
    try:
        answered: object = await case.call(repository, tag_id)
    except AppError as error:
        facts = {name: str(value).replace(str(tag_id), "…") for name, value in vars(error).items()}
        answered = type(error), facts
    finally:
        statement_log.reset(token)
    return answered, ran


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_tag_of_another_audience_is_one_that_never_was(town: Town, case: Case) -> None:
    before = await state_of(town.workspace)
    repository = town.limited(case.kind)
    refused, ran = await answer(case, repository, town.other)
    never, ran_for_never = await answer(case, repository, UUID(RANDOM_ID))
    assert refused == never
    assert ran == ran_for_never
    if case.filters:
        assert (refused.items, refused.total) == ([], 0)  # type: ignore[attr-defined]
    else:
        expected = {"detail": "There is no tag ….", "resource": "tag", "identifier": "…"}
        assert refused == (NotFound, expected)
    assert await state_of(town.workspace) == before
    # It is not that it could not be found at all.
    if not case.filters and case.verb != "check_audience":
        found, _ = await answer(case, town.limited(case.kind, "courses"), town.other)
        assert not (isinstance(found, tuple) and found[0] is NotFound)


async def carriers(town: Town, tag_id: UUID) -> list[str]:
    rows = await run(
        town.workspace.database,
        """
        select c.external_id from contact_tags ct
        join contacts c on c.workspace_id = ct.workspace_id and c.id = ct.contact_id
        where ct.workspace_id = :workspace_id and ct.tag_id = :tag_id
        order by 1
        """,
        workspace_id=town.workspace.principal.workspace_id,
        tag_id=tag_id,
    )
    return [row["external_id"] for row in rows]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_tag_of_its_own_is_as_to_anybody(town: Town, case: Case) -> None:
    """The same comes of it, by the same statements."""
    before = await state_of(town.workspace)
    natively, ran_natively = await answer(case, town.native(case.kind), town.own)
    limited, ran = await answer(case, town.limited(case.kind), town.twin)
    assert ran == ran_natively
    assert type(limited) is type(natively)
    assert getattr(limited, "contact_count", None) == getattr(natively, "contact_count", None)
    if isinstance(limited, tuple):
        assert (limited, case.way) == (natively, "if unused")
        assert limited[0] is Conflict
    assert await carriers(town, town.twin) == await carriers(town, town.own)
    assert (await state_of(town.workspace) != before) is case.changes


@pytest.mark.parametrize("case", [case for case in CASES if not case.changes], ids=str)
async def test_what_is_read_is_the_same(town: Town, case: Case) -> None:
    natively, _ = await answer(case, town.native(case.kind), town.own)
    limited, _ = await answer(case, town.limited(case.kind), town.own)
    assert limited == natively


async def test_the_limit_is_handed_on(town: Town) -> None:
    """To the repositories that one takes to its help; without it they would know every tag again."""
    limited = town.limited(TagContactRepository)._sibling(ContactUpsertRepository)._sibling(TagRepository)
    with pytest.raises(NotFound):
        await limited.get(town.other)
    assert (await limited.get(town.own)).name == "own"
    native = town.native(TagContactRepository)._sibling(TagRepository)
    assert (await native.get(town.other)).audience == "courses"


async def test_a_limit_to_an_audience_that_is_gone_leaves_no_tag(town: Town) -> None:
    for tag_id in (town.own, town.other):
        with pytest.raises(NotFound):
            await town.limited(TagRepository, "gone").get(tag_id)
        with pytest.raises(NotFound):
            await town.limited(TagContactRepository, "gone").assign(tag_id, ContactRefs("external_ids", ["c2"]))


async def test_tags_by_id_on_a_contact_are_those_of_the_audience(town: Town) -> None:
    """From the contact's side every verb is of one audience; an id of another one is unknown in it."""
    [row] = await run(
        town.workspace.database,
        "select id from contacts where workspace_id = :workspace_id and external_id = 'c3'",
        workspace_id=town.workspace.principal.workspace_id,
    )
    before = await state_of(town.workspace)
    repository = town.limited(ContactTagRepository)
    for tag_id in (town.other, UUID(RANDOM_ID)):
        with pytest.raises(InvalidInput) as refused:
            await repository.change(TagChange(row["id"], add=[TagRef(("body", "tag_ids", 0), id=tag_id)]))
        assert refused.value.code == "unknown_ids"
    assert await state_of(town.workspace) == before


@pytest.mark.parametrize("verb", ["apply_tags", "remove_tags", "recolor_tags", "delete_tags"])
async def test_bulk_actions_are_of_the_audience(town: Town, verb: str) -> None:
    """They are of one audience, too, and all that there are means all of that one."""
    before = await state_of(town.workspace)
    repository = town.limited(BulkActionRepository)

    async def act(tag_id: UUID) -> object:
        match verb:
            case "recolor_tags":
                return await repository.recolor_tags(Selection([tag_id]), "#aabbcc", metadata={})
            case "delete_tags":
                return await repository.delete_tags(Selection([tag_id]), metadata={})
        everybody = Selection([], all_but=True)
        return await repository.apply_tags([tag_id], everybody, removes=verb == "remove_tags", metadata={})

    for tag_id in (town.other, UUID(RANDOM_ID)):
        with pytest.raises(InvalidInput) as refused:
            await act(tag_id)
        assert refused.value.code == "unknown_ids"
    assert await state_of(town.workspace) == before
    await act(town.own)
    assert await carriers(town, town.other) == ["c0", "c1"]
    assert (await town.native(TagRepository).get(town.other)).color != "#aabbcc"
