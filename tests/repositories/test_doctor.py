"""The doctor finds each fault that is planted, and that one alone; it finds nothing where nothing is wrong."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from app.database import Connection, Database, Statement, create_engine
from app.repositories import doctor
from app.repositories.audiences import AudienceRepository
from app.repositories.contact_tags import ContactTagRepository, TagChange
from app.repositories.contact_upserts import ContactUpsertRepository, NewContact
from app.repositories.contacts import ContactRepository
from app.repositories.doctor import CHECKS, DoctorRepository, Finding, HeldCount, MendedCount
from app.repositories.events import EventRepository
from app.repositories.memberships import MembershipRepository
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import MakeDatabase, Workspace, make_workspace, with_database
from tests.databases import query
from tests.repositories.crowd import Crowd, names
from tests.routers.calls import run

Planted = Callable[..., Awaitable[Database]]


async def number_events(workspace: Workspace) -> None:
    """Read the feed to its end, which gives each event its place."""
    events, position, has_more = workspace.repository(EventRepository), 0, True
    while has_more:
        page = await events.list(after=position, limit=1_000)
        position, has_more = page.next_position, page.has_more


async def write_history(workspace: Workspace) -> None:
    """Every verb at least once. What is left of it the faults know by name."""
    tags, contacts = workspace.repository(TagRepository), workspace.repository(TagContactRepository)
    contact_tags, people = workspace.repository(ContactTagRepository), workspace.repository(ContactRepository)
    members, audiences = workspace.repository(MembershipRepository), workspace.repository(AudienceRepository)
    upserts = workspace.repository(ContactUpsertRepository)
    await audiences.create("vendors", "Vendors")
    await audiences.create("short-lived", "Short-lived")
    await audiences.update("vendors", {"name": "All vendors"})
    await audiences.delete("short-lived")
    made = await upserts.upsert(
        [
            NewContact({"email": f"{name}@example.com", "external_id": name}, ["newsletter", "vendors"])
            for name in ("carrier", "idle", "returner", "leaver", "deleted")
        ]
    )
    carrier, _, returner, leaver, deleted = ids = [one.contact.id for one in made if one.contact]
    await upserts.upsert([NewContact({"email": "outsider@example.com"}, [])])
    kept, _, gone, past = [
        found.tag for found in await tags.create_many([{"name": name} for name in ("Kept", "Idle", "Gone", "Past")])
    ]
    everyone = ContactRefs("contact_ids", ids)
    for tag in (kept, gone, past):
        await contacts.assign(tag.id, everyone)
    await contacts.unassign(past.id, everyone)
    await contacts.replace(gone.id, ContactRefs("contact_ids", ids[:2]))
    await contact_tags.change(TagChange(carrier, add=names("Kept", "Other", "VENDOR")))
    await contact_tags.change(TagChange(carrier, add=names("Kept", "Other"), replace=True))
    await contact_tags.change(TagChange(carrier, add=names("VIP"), remove=names("Other")), audience="vendors")
    await contacts.unassign(kept.id, ContactRefs("emails", ["idle@example.com"]))
    await tags.update(kept.id, {"color": "#000000"})
    await tags.delete(gone.id)
    await members.leave(returner, "newsletter")
    await members.put(returner, "newsletter", status="unsubscribed")
    await contact_tags.change(TagChange(returner, add=names("Kept")))
    await members.leave(leaver, "newsletter")
    await people.update(leaver, {"first_name": "Lea"})
    await people.delete(deleted)


@pytest.fixture(scope="module")
async def history(server_url: str, template: str) -> AsyncIterator[str]:
    """The name of a database to copy: two workspaces with a past. The events of one are numbered for a part of it."""
    name = f"{template}_history"
    await query(server_url, f"create database {name} template {template}")
    database = Database(create_engine(with_database(server_url, name), pool_size=4))
    numbered, unnumbered = await make_workspace(database), await make_workspace(database)
    await write_history(numbered)
    await (await Crowd.of(numbered)).work(60)
    await number_events(numbered)
    await run(database, "update workspaces set slug = 'numbered' where slug = :slug", slug=numbered.principal.workspace)
    await (await Crowd.of(numbered)).work(20)
    await (await Crowd.of(unnumbered)).work(60)
    await database.dispose()
    yield name
    await query(server_url, f"drop database {name} with (force)")


@pytest.fixture
async def planted(server_url: str, history: str) -> AsyncIterator[Planted]:
    """Copies the database with a past, and runs statements on the copy."""
    async with copy_of(server_url, history) as database:

        async def plant(*statements: str) -> Database:
            for statement in statements:
                await run(database, statement)
            return database

        yield plant


@asynccontextmanager
async def copy_of(server_url: str, history: str) -> AsyncIterator[Database]:
    name = f"{history}_{uuid.uuid4().hex[:8]}"
    await query(server_url, f"create database {name} template {history}")
    database = Database(create_engine(with_database(server_url, name), pool_size=16))
    yield database
    await database.dispose()
    await query(server_url, f"drop database {name} with (force)")


async def broken_in(database: Database) -> list[Finding]:
    return [finding async for finding in DoctorRepository(database).examine() if finding.broken]


async def repair(database: Database) -> list[MendedCount | HeldCount]:
    return [repaired async for repaired in DoctorRepository(database).repair()]


async def test_nothing_is_wrong_with_a_database_that_has_a_past(planted: Planted) -> None:
    database = await planted()
    findings = [finding async for finding in DoctorRepository(database).examine()]
    assert [finding.name for finding in findings] == [check.name for check in CHECKS]
    assert not any(finding.broken or finding.examples for finding in findings)
    # Otherwise it would be a past in which nothing happened.
    types = {row["type"] for row in await run(database, "select distinct type from events")}
    assert len(types) == 13
    [positions] = await run(database, "select count(position) as numbered, count(*) as written from events")
    assert 0 < positions["numbered"] < positions["written"]
    assert await repair(database) == []


WORKSPACE = "(select id from workspaces where slug = 'numbered')"
OTHER_WORKSPACE = "(select id from workspaces where slug <> 'numbered')"
NEWSLETTER = f"(select id from audiences where slug = 'newsletter' and workspace_id = {WORKSPACE})"
VENDORS = f"(select id from audiences where slug = 'vendors' and workspace_id = {WORKSPACE})"
KEPT, IDLE, PAST = (f"(select id from tags where slug = '{slug}')" for slug in ("kept", "idle", "past"))
CARRIER = "(select id from contacts where external_id = 'carrier')"
IDLER = "(select id from contacts where external_id = 'idle')"
LEAVER = "(select id from contacts where external_id = 'leaver')"
OUTSIDER = "(select id from contacts where email = 'outsider@example.com')"
ANYONE = "gen_random_uuid()"
# A position where nothing happens to a tag, or to a contact that is there still, and an event that tells how many
# went with a tag.
HARMLESS = """(
    select max(position) from events
    where type = 'contact.created' and contact_id not in (select id from contacts)
)"""
DELETION = "(select id from events where type = 'tag.deleted' order by sequence limit 1)"


def event(kind: str, payload: str = "'{}'", **ids: str) -> str:
    """An event of the workspace, as nobody wrote it."""
    values = {
        "workspace_id": WORKSPACE,
        "type": f"'{kind}'",
        "payload": payload,
        "front_end": "''",
        "request_id": "''",
    } | ids
    return f"insert into events ({', '.join(values)}) values ({', '.join(values.values())})"


def changed(added: str = "select 1 limit 0", removed: str = "select 1 limit 0") -> str:
    """A change of the tag that is kept; the ids are selected."""
    lists = ", ".join(
        f"'{name}', coalesce((select jsonb_agg(id) from ({select}) as ids(id)), '[]')"
        for name, select in (("added", added), ("removed", removed))
    )
    return event("tag.contacts_changed", f"jsonb_build_object({lists})", tag_id=KEPT, audience_id=NEWSLETTER)


def without(table: str, constraint: str) -> str:
    return f"alter table {table} drop constraint {constraint} cascade"


def leave(contact: str, *audience: str) -> list[str]:
    """End memberships, and nothing that hangs on them but the subscriptions."""
    where = f"contact_id = {contact}" + "".join(f" and audience_id = {one}" for one in audience)
    return [f"delete from subscriptions where {where}", f"delete from audience_members where {where}"]


@dataclass(frozen=True)
class Fault:
    """What is planted, and which check finds how many of it. One example at least must say what is told."""

    check: str
    statements: tuple[str, ...]
    broken: int
    told: dict[str, Any]


def fault(check: str, *statements: str, broken: int = 1, **told: Any) -> Fault:
    return Fault(check, statements, broken, told)


FAULTS = [
    fault(
        "counts",
        f"update tag_counts set n = n + 5 where ctid = (select min(ctid) from tag_counts where tag_id = {KEPT})",
        counted=7,
        assigned=2,
    ),
    fault("counts", f"delete from tag_counts where tag_id = {KEPT}", counted=0, assigned=2),
    fault("counts", f"insert into tag_counts values ({WORKSPACE}, {IDLE}, 64, 1)", counted=1, assigned=0),
    # For another workspace, this one's tag is no less gone.
    fault("gone_counts", f"insert into tag_counts values ({OTHER_WORKSPACE}, {KEPT}, 0, 0)", counted=0),
    fault("assignments", *leave(CARRIER, NEWSLETTER), broken=2, missing="membership"),
    fault(
        "assignments",
        *leave(CARRIER),
        "delete from contacts where external_id = 'carrier'",
        broken=3,
        missing="contact, membership",
    ),
    fault(
        "assignments",
        f"delete from tag_counts where tag_id = {KEPT}",
        "delete from tags where slug = 'kept'",
        broken=2,
        missing="tag",
    ),
    fault(
        "members",
        without("audience_members", "fk_audience_members_contacts"),
        "delete from contacts where external_id = 'idle'",
        broken=2,
        missing="contact",
    ),
    fault(
        "members",
        without("audience_members", "fk_audience_members_audiences"),
        f"insert into audience_members values ({WORKSPACE}, {ANYONE}, {IDLER})",
        missing="audience",
    ),
    fault(
        "subscriptions",
        without("subscriptions", "fk_subscriptions_audience_members"),
        f"delete from audience_members where contact_id = {IDLER}",
        broken=2,
    ),
    fault(
        "tag_audiences",
        without("tags", "fk_tags_audiences"),
        f"update tags set audience_id = {ANYONE} where slug = 'idle'",
    ),
    fault("default_audiences", f"update audiences set is_default = false where workspace_id = {WORKSPACE}", defaults=0),
    fault(
        "default_audiences",
        "drop index uq_audiences_default",
        "update audiences set is_default = true",
        defaults=2,
    ),
    fault(
        "audience_keys",
        without("audiences", "uq_audiences_workspace_id_slug"),
        "update audiences set slug = 'newsletter' where slug = 'vendors'",
        broken=2,
        field="slug",
    ),
    *(
        fault(
            "tag_keys",
            without("tags", f"uq_tags_workspace_id_{scope}{field}"),
            f"update tags t set {fields} from tags o where t.slug = 'idle' and o.slug = 'kept'",
            broken=2,
            field=field,
        )
        for scope, field, fields in (
            ("audience_id_", "name_key", "name = o.name, name_key = o.name_key"),
            ("audience_id_", "slug", "slug = o.slug"),
            ("audience_id_", "secondary_id", "secondary_id = o.secondary_id"),
            ("", "number", "number = o.number"),
        )
    ),
    *(
        fault(
            "contact_keys",
            without("contacts", f"uq_contacts_workspace_id_{field}"),
            f"update contacts c set {fields} from contacts o where c.id = {IDLER} and o.id = {CARRIER}",
            broken=2,
            field=field,
        )
        for field, fields in (
            ("email_key", "email = upper(o.email), email_key = o.email_key"),
            ("external_id", "external_id = o.external_id"),
            ("number", "number = o.number"),
        )
    ),
    *(
        fault("audience_values", f"update audiences set {field} = {value} where slug = 'vendors'", fields=field)
        for field, value in (("name", "' Vendors'"), ("slug", "'Vendors'"), ("slug", "''"))
    ),
    *(
        fault("tag_values", f"update tags set {changes} where slug = 'idle'", fields=fields)
        for fields, changes in (
            ("name", "name = ' idle'"),
            ("name, name_key", "name = E'i\\x07dle'"),
            ("name", "name = repeat('x', 121), name_key = repeat('x', 121)"),
            ("name_key", "name_key = 'Idle'"),
            ("name_key", "name = 'Straße'"),
            ("slug", "slug = 'i dle'"),
            ("slug", "slug = ''"),
            ("secondary_id", "secondary_id = 0"),
            ("secondary_id", "secondary_id = 1000000001"),
            ("color", "color = '#fff'"),
            ("color", "color = 'red'"),
            ("description", "description = repeat('x', 1001)"),
            ("public_description", "public_description = repeat('x', 1001)"),
            ("version", "version = 0"),
        )
    ),
    *(
        fault("contact_values", f"update contacts set {changes} where external_id = 'idle'", fields=fields)
        for fields, changes in (
            ("email_key", "email_key = 'IDLE@example.com'"),
            ("email_key", "email = 'else@example.com'"),
            ("email", "email = 'idle', email_key = 'idle'"),
            ("email", "email = ' idle@example.com'"),
            ("external_id", "external_id = ''"),
            ("external_id", "external_id = repeat('x', 256)"),
            ("first_name", "first_name = repeat('x', 256)"),
            ("last_name", "last_name = repeat('x', 256)"),
            ("attributes", "attributes = jsonb_build_object('a', repeat('x', 16377))"),
        )
    ),
    *(
        fault("key_scopes", f"update api_keys set scopes = {scopes} where workspace_id = {WORKSPACE}")
        for scopes in ("'{}'", "'{admin,tags:delete}'", "'{tags:read,NULL}'")
    ),
    # Who was never created, who was twice, who was deleted and is there, and who was changed before there was anything.
    *(
        fault(f"{kind}_lives", *statements, **told)
        for kind, thing, idle in (
            ("audience", VENDORS, VENDORS),
            ("tag", KEPT, IDLE),
            ("contact", LEAVER, LEAVER),
        )
        for statements, told in (
            (
                [f"update events set {kind}_id = {ANYONE} where type = '{kind}.created' and {kind}_id = {thing}"],
                {"created": 0, "deleted": 0, "is_told_before": False},
            ),
            (
                [event(f"{kind}.created", **{f"{kind}_id": thing})],
                {"created": 2, "deleted": 0, "is_told_before": False},
            ),
            (
                [event(f"{kind}.deleted", """'{"removed_count": 0}'""", **{f"{kind}_id": idle})],
                {"created": 1, "deleted": 1, "is_told_before": False},
            ),
            (
                [
                    without("events", "uq_events_workspace_id_position"),
                    f"""
                    update events e set position = o.position from events o
                    where e.{kind}_id = {thing} and o.{kind}_id = {thing} and e.id <> o.id
                        and e.type in ('{kind}.created', '{kind}.updated')
                        and o.type in ('{kind}.created', '{kind}.updated')
                    """,
                ],
                {"created": 1, "deleted": 0, "is_told_before": True},
            ),
        )
    ),
    fault("event_streams", f"delete from event_streams where workspace_id = {OTHER_WORKSPACE}"),
    fault("event_streams", f"insert into workspaces values ({ANYONE}, 'new', 'new')"),
    # A gap, a repeat, one that is lost, the last two numbers that do not agree, and one that is not counted from 1.
    fault("event_positions", f"update events set position = 1000000 where position = {HARMLESS}"),
    fault(
        "event_positions",
        without("events", "uq_events_workspace_id_position"),
        f"update events set position = 1 where position = {HARMLESS}",
    ),
    fault("event_positions", f"update events set position = null where position = {HARMLESS}"),
    fault("event_positions", "update event_streams set last_position = last_position - 1 where last_position > 0"),
    fault("event_positions", "update events set position = 0 where position = 1"),
    fault("event_types", event("tag.tagged"), type="tag.tagged"),
    fault("event_payloads", changed()),
    fault("event_payloads", event("contact.tags_changed", """'{"added": []}'""", contact_id=CARRIER)),
    fault("event_payloads", event("contact.tags_changed", """'{"added": {}, "removed": "x"}'""")),
    fault("event_payloads", event("tag.deleted", "'[]'", tag_id=ANYONE)),
    fault("event_payloads", event("contact.deleted", """'{"removed_count": "1"}'""", contact_id=ANYONE)),
    # One tells too much at once; two others take it back.
    fault(
        "event_payloads",
        changed(added="select cast(n as text) from generate_series(1, 501) n"),
        changed(removed="select cast(n as text) from generate_series(1, 500) n"),
        changed(removed="select '501'"),
    ),
    *(
        fault("event_ids", event("tag.updated", **{f"{kind}_id": theirs}), foreign=kind)
        for kind, theirs in (
            ("audience", f"(select id from audiences where workspace_id = {OTHER_WORKSPACE})"),
            ("tag", f"(select id from tags where workspace_id = {OTHER_WORKSPACE} limit 1)"),
            ("contact", f"(select id from contacts where workspace_id = {OTHER_WORKSPACE} limit 1)"),
            ("client", f"(select id from clients where workspace_id = {OTHER_WORKSPACE})"),
            ("key", f"(select id from api_keys where workspace_id = {OTHER_WORKSPACE})"),
        )
    ),
    fault("event_ids", event("tag.updated", workspace_id=ANYONE), foreign="workspace"),
    fault(
        "event_sums",
        f"update events set payload = jsonb_set(payload, '{{removed_count}}', '1000') where id = {DELETION}",
    ),
    # Told of another contact than it was.
    fault("event_replay", changed(added=f"select {OUTSIDER}", removed=f"select {CARRIER}"), broken=2, assigned=True),
    # Told of what is no id.
    fault(
        "event_replay",
        changed(added="select 'x'", removed=f"select {CARRIER}"),
        changed(added=f"select {CARRIER}", removed="select 'x'"),
        changed(added="select 1", removed=f"select {CARRIER}"),
        broken=2,
        contact_id="1",
        assigned=False,
    ),
    # In the order of positions, the tag is taken away and then given. It was the other way round.
    fault(
        "event_replay",
        without("events", "uq_events_workspace_id_position"),
        f"""
        update events e set position = o.position from events o
        where e.tag_id = {PAST} and o.tag_id = {PAST} and e.id <> o.id
            and e.type = 'tag.contacts_changed' and o.type = 'tag.contacts_changed'
        """,
        broken=2,
        assigned=False,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.check}-{place}" for place, fault in enumerate(FAULTS)])
async def test_a_fault_is_found_by_its_check_alone(planted: Planted, fault: Fault) -> None:
    [finding] = await broken_in(await planted(*fault.statements))
    assert (finding.name, finding.broken) == (fault.check, fault.broken)
    assert all("workspace_id" in example for example in finding.examples)
    assert any(fault.told.items() <= example.items() for example in finding.examples), finding.examples
    # Of a person, the id and nothing else.
    assert "example.com" not in json.dumps(finding.examples).lower()


def test_every_check_has_a_fault() -> None:
    assert {fault.check for fault in FAULTS} == {check.name for check in CHECKS}


async def test_a_few_examples_and_the_full_number(planted: Planted) -> None:
    database = await planted(
        f"insert into tag_counts (workspace_id, tag_id, slot, n) "
        f"select {WORKSPACE}, gen_random_uuid(), 0, 1 from generate_series(1, 7)",
        "update contacts set email_key = 'x' || email_key",
    )
    [contacts] = await run(database, "select count(*) as n from contacts")
    for examples, shown in ((5, [5, 5]), (None, [7, contacts["n"]])):
        findings = [one async for one in DoctorRepository(database).examine(examples=examples) if one.broken]
        assert [(one.name, one.broken) for one in findings] == [("gone_counts", 7), ("contact_values", contacts["n"])]
        assert [len(one.examples) for one in findings] == shown


async def test_rows_are_looked_at_in_batches_to_the_last(planted: Planted) -> None:
    count = 2 * doctor._BATCH + 1
    database = await planted(
        f"insert into contacts (workspace_id, id, email, email_key) "
        f"select {OTHER_WORKSPACE}, cast('ffffffff-0000-7000-8000-' || lpad(to_hex(n), 12, '0') as uuid), "
        f"'x' || n || '@example.com', case when n in (1, {count // 2}, {count}) then 'X' else 'x' end "
        f"|| n || '@example.com' from generate_series(1, {count}) as n",
    )
    # Nor does any event tell of them.
    assert [(finding.name, finding.broken) for finding in await broken_in(database)] == [
        ("contact_values", 3),
        ("contact_lives", count),
    ]


# Beside those who write.


@pytest.fixture
async def workspace(new_database: MakeDatabase) -> AsyncIterator[Workspace]:
    """One on a database of its own, with connections enough for real races."""
    database = Database(create_engine(await new_database(), pool_size=16))
    yield await make_workspace(database)
    await database.dispose()


async def test_no_false_alarm_while_everybody_writes(workspace: Workspace) -> None:
    crowd = await Crowd.of(workspace)
    working = asyncio.gather(*(crowd.work(40) for _ in range(10)))
    rounds = 0
    while not working.done():
        assert await broken_in(workspace.database) == []
        await number_events(workspace)
        rounds += 1
    await working
    assert rounds > 1
    assert await broken_in(workspace.database) == []


async def test_repair_mends_counts_and_says_which(planted: Planted) -> None:
    database = await planted(
        f"update tag_counts set n = n + 5 where ctid = (select min(ctid) from tag_counts where tag_id = {KEPT})",
        f"insert into tag_counts (workspace_id, tag_id, slot, n) values ({WORKSPACE}, {IDLE}, 64, -3)",
        f"insert into tag_counts (workspace_id, tag_id, slot, n) values ({OTHER_WORKSPACE}, {KEPT}, 0, 9)",
        "update tags set color = 'red' where slug = 'idle'",
    )
    [ids] = await run(
        database, f"select {WORKSPACE} as mine, {OTHER_WORKSPACE} as other, {KEPT} as kept, {IDLE} as idle"
    )
    mended = [one for one in await repair(database) if isinstance(one, MendedCount)]
    assert mended[0] == MendedCount(ids["other"], ids["kept"], counted=9, assigned=0)
    assert {one.tag_id: one for one in mended[1:]} == {
        ids["kept"]: MendedCount(ids["mine"], ids["kept"], counted=7, assigned=2),
        ids["idle"]: MendedCount(ids["mine"], ids["idle"], counted=-3, assigned=0),
    }
    # What else is broken stays as it is.
    assert [finding.name for finding in await broken_in(database)] == ["tag_values"]
    assert await repair(database) == []


async def test_repair_is_exact_while_others_assign_and_unassign(workspace: Workspace) -> None:
    """Also when two repair at once."""
    database = workspace.database
    ids = await workspace.make_contacts(60)
    tags = [found.tag for found in await workspace.repository(TagRepository).create_many([{"name": n} for n in "abc"])]
    contacts, contact_tags = workspace.repository(TagContactRepository), workspace.repository(ContactTagRepository)
    dice, done = random.Random(5), asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            tag, some = dice.choice(tags), ContactRefs("contact_ids", dice.sample(ids, 20))
            await contacts.assign(tag.id, some)
            await contact_tags.change(TagChange(dice.choice(ids), add=names("a"), remove=names("b", "c")))
            await contacts.unassign(tag.id, some)

    writing = asyncio.gather(*(write() for _ in range(8)))
    mended = []
    for _ in range(25):
        await run(database, "update tag_counts set n = n + 3 where slot % 2 = :odd", odd=dice.randrange(2))
        for some in await asyncio.gather(repair(database), repair(database)):
            mended += some
        assert not writing.done()
    done.set()
    await writing
    assert len(mended) >= 25
    assert await broken_in(database) == []


async def test_repair_of_a_tag_that_is_being_deleted(workspace: Workspace) -> None:
    tags, contacts = workspace.repository(TagRepository), workspace.repository(TagContactRepository)
    ids = await workspace.make_contacts(10)
    for _ in range(50):
        tag = (await tags.create({"name": "short-lived"})).tag
        await contacts.assign(tag.id, ContactRefs("contact_ids", ids))
        await run(workspace.database, "update tag_counts set n = n + 1")
        await asyncio.gather(repair(workspace.database), tags.delete(tag.id), repair(workspace.database))
        assert await broken_in(workspace.database) == []


async def test_repair_skips_what_another_transaction_holds(new_database: MakeDatabase) -> None:
    database = Database(create_engine(await new_database(), pool_size=2, lock_timeout=0.1))
    workspace = await make_workspace(database)
    tags = workspace.repository(TagRepository)
    held, free = [found.tag.id for found in await tags.create_many([{"name": "held"}, {"name": "free"}])]
    workspace_id = workspace.principal.workspace_id
    await run(database, "insert into tag_counts select workspace_id, id, 0, 5 from tags")
    hold = Statement("test.hold", "select from tags where id = :tag_id for update")

    async def repair_meanwhile(connection: Connection) -> list[MendedCount | HeldCount]:
        await connection.fetch(hold, tag_id=held)
        return await repair(database)

    repaired = await database.transaction(repair_meanwhile)
    assert sorted(repaired, key=lambda one: one.tag_id == held) == [
        MendedCount(workspace_id, free, counted=5, assigned=0),
        HeldCount(workspace_id, held),
    ]
    [finding] = await broken_in(database)
    assert (finding.name, finding.examples[0]["tag_id"]) == ("counts", str(held))
    assert await repair(database) == [MendedCount(workspace_id, held, counted=5, assigned=0)]
    await database.dispose()
