"""Callers that do anything to anything, for tests of what must hold whatever happens."""

import random
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from app.errors import NotFound
from app.repositories.contact_tags import ContactTagRepository, TagChange, TagRef
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.contacts import ContactRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import Workspace


@dataclass(frozen=True)
class Crowd:
    """Few tags and few contacts of a workspace, so that callers meet."""

    workspace: Workspace
    tag_ids: list[UUID]
    contact_ids: list[UUID]
    dice: random.Random

    async def act_often(self, times: int) -> None:
        """Do so many things, one after the other. What is gone is an answer."""
        for _ in range(times):
            # A contact that another one has just put another in place of is no longer in the list.
            with suppress(NotFound, ValueError):
                await self.act()

    async def act(self) -> None:
        """Do one thing, by any of the verbs that write."""
        make, dice = self.workspace.repository, self.dice
        tags, contacts, contact_tags = make(TagRepository), make(TagContactRepository), make(ContactTagRepository)
        some = ContactRefs("contact_ids", dice.sample(self.contact_ids, dice.randint(1, 25)))
        tag, contact = dice.choice(self.tag_ids), dice.choice(self.contact_ids)
        few = _names(*dice.sample([f"t{n}" for n in range(8)], dice.randint(1, 4)))
        more = _names(*dice.sample([f"t{n}" for n in range(8, 12)], 2))
        match dice.randrange(14):
            case 0 | 1 | 2:
                await contacts.assign(tag, some, on_missing="skip")
            case 3 | 4:
                await contacts.unassign(tag, some)
            case 5:
                await contacts.replace(tag, some, on_missing="skip")
            case 6 | 7:
                await contact_tags.change(TagChange(contact, add=few))
            case 8:
                await contact_tags.change(TagChange(contact, remove=few))
            case 9:
                await contact_tags.change(TagChange(contact, add=few, replace=True))
            case 10:
                await contact_tags.change(TagChange(contact, add=few, remove=more))
            case 11:
                members = make(MembershipRepository)
                await (members.leave if dice.random() < 0.5 else members.put)(contact, "newsletter")
            case 12:
                place = dice.randrange(len(self.tag_ids))
                await tags.delete(self.tag_ids[place])
                self.tag_ids[place] = (await tags.create({"name": f"t{place}"}, on_conflict="return")).tag.id
            case 13:
                place = self.contact_ids.index(contact)
                await make(ContactRepository).delete(contact)
                [made] = await make(ContactUpsertRepository).upsert(
                    [NewContact({"email": f"new{dice.random()}@example.com"}, ["newsletter"], tags=["t1", "t9"])]
                )
                assert made.contact
                self.contact_ids[place] = made.contact.id


async def make_crowd(workspace: Workspace, *, seed: int) -> Crowd:
    """A crowd in the default audience of a workspace that is new."""
    made = await workspace.repository(TagRepository).create_many([{"name": f"t{n}"} for n in range(6)])
    return Crowd(workspace, [found.tag.id for found in made], await workspace.make_contacts(40), random.Random(seed))


def _names(*names: str) -> list[TagRef]:
    return [TagRef.by_name(name, ()) for name in names]
