"""`polytag doctor` as a person or a program runs it: what it says, and with which exit status."""

import asyncio
import json
import subprocess
from pathlib import Path

import asyncpg
import pytest

from app.database import Database, create_engine
from app.repositories.doctor import CHECKS
from app.repositories.tag_contacts import ContactRefs, TagContactRepository
from app.repositories.tags import TagRepository
from tests.conftest import MakeDatabase, make_workspace
from tests.databases import empty_database, query
from tests.test_server import polytag


@pytest.fixture
async def url(new_database: MakeDatabase) -> str:
    """A database with a tag that three contacts carry."""
    url = await new_database()
    database = Database(create_engine(url))
    workspace = await make_workspace(database)
    tag = (await workspace.repository(TagRepository).create({"name": "VIP"})).tag
    contacts = ContactRefs("contact_ids", await workspace.make_contacts(3))
    await workspace.repository(TagContactRepository).assign(tag.id, contacts)
    return url


async def run_doctor(url: str, *options: str) -> "subprocess.CompletedProcess[str]":
    done = await asyncio.to_thread(polytag, "doctor", *options, POLYTAG_DATABASE_URL=url)
    assert "Traceback" not in done.stderr
    return done


async def test_a_line_for_each_check_and_what_to_do(url: str) -> None:
    sound = await run_doctor(url)
    assert (sound.returncode, sound.stderr) == (0, "")
    lines = sound.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", check.name] for check in CHECKS]
    assert lines[-1] == f"All {len(CHECKS)} checks passed."

    [[workspace_id, tag_id]] = await query(url, "update tag_counts set n = 1007 returning workspace_id, tag_id")
    await query(url, "update contacts set email_key = 'x' || email_key")
    broken = await run_doctor(url)
    assert (broken.returncode, broken.stderr) == (1, "")
    lines = broken.stdout.splitlines()
    assert lines[:2] == [
        "BROKEN  counts             tags whose count is not the number of their assignments: 1",
        f"        workspace_id={workspace_id} tag_id={tag_id} counted=1007 assigned=3",
    ]
    assert [line.split()[1] for line in lines if line.startswith("BROKEN")] == ["counts", "contact_values"]
    assert lines[-3] == f"2 of {len(CHECKS)} checks found something."
    assert "polytag doctor --repair" in lines[-2]
    assert "example.com" not in broken.stdout

    # What cannot be repaired stays, and so does the exit status.
    half = await run_doctor(url, "--repair")
    assert half.returncode == 1
    lines = half.stdout.splitlines()
    assert lines[0] == f"MENDED  the count of workspace_id={workspace_id} tag_id={tag_id}, from 1,007 to 3"
    assert [line.split()[1] for line in lines if line.startswith("BROKEN")] == ["contact_values"]
    assert lines[-3] == "Counts that were wrong and are right now: 1."
    assert "--repair" not in lines[-1]


async def test_a_repair_of_all_that_was_broken(url: str) -> None:
    await query(url, "update tag_counts set n = 7")
    done = await run_doctor(url, "--repair")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == [
        "Counts that were wrong and are right now: 1.",
        f"All {len(CHECKS)} checks passed.",
    ]


async def test_a_repair_goes_past_what_another_transaction_holds(url: str) -> None:
    [[workspace_id, tag_id]] = await query(url, "update tag_counts set n = 7 returning workspace_id, tag_id")
    holder = await asyncpg.connect(url)
    try:
        async with holder.transaction():
            await holder.execute("select from tags for update")
            done, as_json = await asyncio.gather(run_doctor(url, "--repair"), run_doctor(url, "--repair", "--json"))
    finally:
        await holder.close()
    ids = f"workspace_id={workspace_id} tag_id={tag_id}"
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"SKIPPED the count of {ids}: another transaction holds it"
    assert lines[2] == f"        {ids} counted=7 assigned=3"
    assert "polytag doctor --repair" in lines[-1]
    document = json.loads(as_json.stdout)
    assert (as_json.returncode, document["ok"], document["repaired"]) == (1, False, [])
    assert document["skipped"] == [{"workspace_id": str(workspace_id), "tag_id": str(tag_id)}]


async def test_one_json_object(url: str) -> None:
    [[workspace_id, tag_id]] = await query(url, "update tag_counts set n = 7 returning workspace_id, tag_id")
    ids = {"workspace_id": str(workspace_id), "tag_id": str(tag_id)}
    done = await run_doctor(url, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document.keys() == {"ok", "checks", "repaired", "skipped"}
    assert (document["ok"], document["repaired"], document["skipped"]) == (False, [], [])
    counts, *others = document["checks"]
    assert counts == {"name": "counts", "ok": False, "broken": 1, "examples": [ids | {"counted": 7, "assigned": 3}]}
    assert others == [{"name": check.name, "ok": True, "broken": 0, "examples": []} for check in CHECKS[1:]]

    done = await run_doctor(url, "--json", "--repair")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["ok"], document["repaired"]) == (True, [ids | {"from": 7, "to": 3}])


async def test_many_examples_are_cut(url: str) -> None:
    gone = "insert into tag_counts select id, gen_random_uuid(), 0, 1 from workspaces, generate_series(1, 1234)"
    await query(url, gone)
    done = await run_doctor(url)
    lines = done.stdout.splitlines()
    [place] = [place for place, line in enumerate(lines) if line.startswith("BROKEN")]
    assert lines[place].endswith("counts of tags that are gone: 1,234")
    assert lines[place + 6] == "        and 1,229 more"


async def test_a_database_that_is_not_migrated(server_url: str) -> None:
    async with empty_database(server_url) as url:
        done = await run_doctor(url, "--repair")
        assert (done.returncode, done.stdout) == (1, "")
        assert "polytag db upgrade" in done.stderr
        assert await query(url, "select to_regclass('alembic_version')") == [(None,)]


async def test_a_check_that_the_database_refuses(url: str) -> None:
    await query(url, "alter table subscriptions rename to elsewhere")
    done = await run_doctor(url)
    assert done.returncode == 1
    assert 'relation "subscriptions" does not exist' in done.stderr


async def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    done = await run_doctor("postgresql://polytag:hunter2@127.0.0.1:1/nowhere")
    assert done.returncode == 1
    assert "127.0.0.1:1/nowhere" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    done = await asyncio.to_thread(polytag, "doctor", "--data-dir", str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "There is no database" in done.stderr
    assert not (tmp_path / "nothing").exists()
