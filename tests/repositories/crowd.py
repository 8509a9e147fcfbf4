"""Callers who do everything at once: every verb that changes something, at random, on few tags and few contacts."""

import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from uuid import UUID

from app.errors import NotFound, PreconditionFailed
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef, etag_of
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.contacts import ContactRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import Workspace


def names(*names: str) -> list[TagRef]:
    return [TagRef.by_name(name, ("body", "tags", place)) for place, name in enumerate(names)]


@dataclass
class Crowd:
    """What the callers of one workspace meet on: 40 contacts and 6 tags, and others in the place of those that go."""

    workspace: Workspace
    contacts: list[UUID]
    tags: list[UUID]
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    @classmethod
    async def of(cls, workspace: Workspace) -> Self:
        contacts = await workspace.make_contacts(40, prefix="crowd")
        tags = await workspace.repository(TagRepository).create_many([{"name": f"t{n}"} for n in range(6)])
        return cls(workspace, contacts, [found.tag.id for found in tags])

    async def work(self, turns: int) -> None:
        for _ in range(turns):
            # What is gone is an answer; so is a contact that another caller has just put another in place of.
            with suppress(NotFound, ValueError):
                await self._act()

    async def _act(self) -> None:
        repository, dice = self.workspace.repository, self.dice
        tags, contacts = repository(TagRepository), repository(TagContactRepository)
        contact_tags, members = repository(ContactTagRepository), repository(MembershipRepository)
        people, upserts = repository(ContactRepository), repository(ContactUpsertRepository)
        some = dice.sample(self.contacts, dice.randint(1, 25))
        tag, contact = dice.choice(self.tags), dice.choice(self.contacts)
        few = names(*dice.sample([f"t{n}" for n in range(8)], dice.randint(1, 4)))
        more = names(*dice.sample([f"t{n}" for n in range(8, 12)], 2))
        match dice.randrange(15):
            case 0 | 1 | 2:
                await contacts.assign(tag, ContactRefs("contact_ids", some), on_missing="skip")
            case 3 | 4:
                await contacts.unassign(tag, ContactRefs("contact_ids", some))
            case 5:
                await contacts.replace(tag, ContactRefs("contact_ids", some), on_missing="skip")
            case 6 | 7:
                await contact_tags.change(TagChange(contact, add=few))
            case 8:
                await contact_tags.change(TagChange(contact, remove=few))
            case 9:
                await contact_tags.change(TagChange(contact, add=few, replace=True))
            case 10:
                await contact_tags.change(TagChange(contact, add=few, remove=more))
            case 11:
                await (members.leave if dice.random() < 0.5 else members.put)(contact, "newsletter")
            case 12:
                place = dice.randrange(len(self.tags))
                await tags.delete(self.tags[place])
                self.tags[place] = (await tags.create({"name": f"t{place}"}, on_conflict="return")).tag.id
            case 13:
                place = self.contacts.index(contact)
                await people.delete(contact)
                [made] = await upserts.upsert(
                    [NewContact({"email": f"new{dice.random()}@example.com"}, ["newsletter"], tags=names("t1", "t9"))]
                )
                assert made.contact
                self.contacts[place] = made.contact.id
            case 14:
                # Who comes too late is told so.
                read = await contact_tags.list(contact)
                with suppress(PreconditionFailed):
                    await contact_tags.change(TagChange(contact, add=few, remove=more), if_match=[etag_of(read)])
