"""docs/features.md says which test accepts which feature, and says so truly."""

import re
from pathlib import Path

from tests.features import test_beyond, test_core

DOCS = Path(__file__).parents[2] / "docs"
TABLE = re.findall(r"^\| ([CX]\d+) \| (.+) \| (.+) \|$", (DOCS / "features.md").read_text(), re.MULTILINE)
# What there is. A row that is added to the table belongs here too, so that it cannot get lost.
ROWS = [
    *(f"C{number}" for number in (*range(1, 25), 31)),
    *(f"X{number}" for number in (1, 2, 3, 4, 5, 7, 9, 10, 13, 14, 20, 21, 22, 28, 31, 32, 37)),
]


def test_every_row_is_there_once_and_in_order() -> None:
    assert [row for row, _, _ in TABLE] == ROWS


def test_every_row_leads_to_its_tests_and_every_test_is_in_its_row() -> None:
    there = {
        row: [
            (name, f"{module.__name__.replace('.', '/')}.py")
            for module in (test_core, test_beyond)
            for name in vars(module)
            if name.startswith(f"test_{row.lower()}_")
        ]
        for row, _, _ in TABLE
    }
    named = {row: re.findall(r"\[(\w+)\]\(\.\./([\w/.]+)\)", tests) for row, _, tests in TABLE}
    assert named == there
    assert all(named.values())
    tests = [name for module in (test_core, test_beyond) for name in vars(module) if name.startswith("test_")]
    assert sorted(tests) == sorted(name for of_row in named.values() for name, _ in of_row)


def test_every_criterion_is_a_sentence() -> None:
    for module in (test_core, test_beyond):
        for name, test in vars(module).items():
            if name.startswith("test_"):
                assert test.__doc__, name
                assert test.__doc__.endswith("."), name
