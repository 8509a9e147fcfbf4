"""The guide's lines work as they are pasted, and answer what stands below them."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from app.config import Settings
from app.dialects.sendportal.bodies import FIELDS_MAX
from app.dialects.sendportal.pages import PER_PAGE_MAX, WHOLE_MAX
from app.dialects.sendportal.schemas import SUBSCRIBERS_MAX, TAGS_MAX
from app.frontend import QUERY_MAX_BYTES, QUERY_PARAMETERS_MAX
from app.main import create_app
from app.values import EMAIL_MAX_LENGTH, NAME_MAX_LENGTH, PERSON_NAME_MAX_LENGTH
from tests.conftest import Workspace

GUIDE = (Path(__file__).parents[3] / "docs" / "dialects" / "sendportal.md").read_text(encoding="utf-8")


@asynccontextmanager
async def served(database_url: str) -> AsyncIterator[str]:
    """The address of the service, on a port of this machine."""
    server = uvicorn.Server(uvicorn.Config(create_app(Settings(database_url=database_url)), port=0, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done()
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", GUIDE, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def masked(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", re.sub(r'"id":\d+', '"id":1', text))


async def pasted(lines: str, workspace: Workspace) -> str:
    """What a shell writes that runs these lines with a key of the workspace, and no error."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        lines,
        env={**os.environ, "POLYTAG_KEY": workspace.provisioned.key, "NO_PROXY": "*"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert errors.decode() == ""
    return output.decode()


async def test_the_lines_of_the_guide(database_url: str, workspace: Workspace) -> None:
    _provision, *lines = blocks("sh")
    async with served(database_url) as address:
        # The second time all of it is there already.
        for _ in range(2):
            output = await pasted("".join(lines).replace("http://127.0.0.1:8000", address), workspace)
            assert masked(output) == masked("".join(blocks("json")))


@pytest.mark.parametrize(
    "row",
    [
        f"| a tag's name | {NAME_MAX_LENGTH} characters |",
        f"| a first name, a last name | {PERSON_NAME_MAX_LENGTH} characters |",
        f"| an email | {EMAIL_MAX_LENGTH} characters |",
        f"| tags that a call names | {TAGS_MAX:,} |",
        f"| subscribers that a call names | {SUBSCRIBERS_MAX:,} |",
        f"| items of a page (`per_page`) | {PER_PAGE_MAX:,} |",
        f"| a list of subscribers that is answered whole | {WHOLE_MAX:,} |",
        f"| pairs of a form | {FIELDS_MAX:,} |",
        f"| a query | {QUERY_MAX_BYTES:,} bytes, {QUERY_PARAMETERS_MAX:,} pairs |",
    ],
)
def test_the_limits_of_the_guide(row: str) -> None:
    assert row in GUIDE
