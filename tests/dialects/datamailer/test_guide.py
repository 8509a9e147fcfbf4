"""The guide: its curl lines work as pasted, and its table of errors has every code that the dialect gives."""

import ast
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from app.dialects import datamailer
from tests.conftest import Api
from tests.dialects.datamailer.calls import UNKNOWN_CONTACT
from tests.routers.calls import Json

GUIDE = (Path(__file__).parents[3] / "docs" / "dialects" / "datamailer.md").read_text(encoding="utf-8")
DIALECT = Path(datamailer.__file__).parent


def curl_lines() -> list[list[str]]:
    """The arguments of each call of curl in the guide, with the shell's variables left in."""
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))
    return [shlex.split(line) for line in re.findall(r"curl ((?:[^'\n|]|'[^']*')*)", blocks.replace("\\\n", " "))]


async def test_the_curl_lines_work(api: Api) -> None:
    """With a key to a workspace that has a client `web` and an audience `newsletter`, as the guide makes it."""
    contact_id = UNKNOWN_CONTACT
    lines = curl_lines()
    assert len(lines) == 5
    for line in lines:
        assert "Authorization: Bearer $POLYTAG_KEY" in line
        options = {option: line[place + 1] for place, option in enumerate(line) if option in {"-X", "-d"}}
        [url] = [argument for argument in line if argument.startswith("http://127.0.0.1:8000/")]
        parts = urlsplit(url.replace("$CONTACT", str(contact_id)))
        body = options.get("-d")
        response = await api.request(
            options.get("-X") or ("POST" if body else "GET"),
            f"{parts.path}?{parts.query}",
            content=body,
            headers={"Content-Type": "application/json"},
        )
        assert response.status_code in {200, 201}, f"{line}: {response.text}"
        answer: Json = response.json()
        contact_id = answer.get("contact_id", contact_id)
    assert contact_id != UNKNOWN_CONTACT


def codes_in_the_code() -> set[str]:
    """What refusals are made with, as far as it stands there in letters."""
    found: set[str] = set()
    for path in DIALECT.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name("refusal"), args=[ast.Dict(values=values)]):
                    found |= {code for value in values for one in ast.walk(value) for code in code_in(one)}
                case ast.Assign(targets=[ast.Subscript(value=ast.Name("codes"))], value=ast.Constant(str() as code)):
                    found.add(code)
    return found


def code_in(node: ast.AST) -> list[str]:
    match node:
        case ast.Constant(value=str() as text) if text.isidentifier():
            return [text]
    return []


def test_every_code_is_told() -> None:
    codes = codes_in_the_code()
    assert {"required", "forbidden", "must_be_list", "must_be_object", "too_many"} <= codes
    errors = GUIDE.partition("\n## Errors\n")[2].partition("\n## ")[0]
    assert {code for code in codes if f"`{code}" not in errors} == set()
