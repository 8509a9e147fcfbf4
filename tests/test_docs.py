"""What the docs say of the code is what the code does."""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from app.config import Settings
from app.errors import FIELD_CODES
from app.frontend import _CODES, _OWN_CODES, _REWORDED
from app.repositories.events import EVENT_TYPES
from app.values import SCOPES

ROOT = Path(__file__).parent.parent
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def write_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_docs", ROOT / "scripts" / "write_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITE_DOCS = write_docs()


@pytest.mark.parametrize("path", WRITE_DOCS.documents(), ids=lambda path: path.name)
def test_a_generated_document_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == WRITE_DOCS.documents()[path], "run `make docs`"


def test_every_setting_is_described() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"`POLYTAG_{name.upper()}`" in text
        assert field.description


def codes_in_the_code() -> Iterator[str]:
    """The codes of fields that are given anywhere, as literals."""
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"FieldError": 1, "PydanticCustomError": 0}.get(node.func.id)
            if place is not None and len(node.args) > place:
                yield from (
                    inner.value
                    for inner in ast.walk(node.args[place])
                    if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                )
    yield from _OWN_CODES
    yield from _CODES.values()
    yield from (code for code, _ in _REWORDED.values())


def test_every_code_of_a_field_is_described_and_given() -> None:
    assert set(codes_in_the_code()) == set(FIELD_CODES)


@pytest.mark.parametrize("word", [*EVENT_TYPES, *SCOPES])
def test_events_and_scopes_are_described(word: str) -> None:
    assert f"`{word}`" in API
