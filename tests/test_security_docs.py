"""SECURITY.md names a test for each thing that it claims, and the test is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", TEXT)))


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_is_there(named: str) -> None:
    path, _, function = named.partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    functions = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    assert function in functions or (not function and functions)


@pytest.mark.parametrize("number", range(1, 11))
def test_each_item_has_a_test(number: int) -> None:
    [row] = re.findall(rf"^\| API{number} .*$", TEXT, re.MULTILINE)
    _, holds, tests = row.strip("| ").split(" | ")
    assert holds
    assert "`tests/" in tests


def test_the_readme_leads_here() -> None:
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
