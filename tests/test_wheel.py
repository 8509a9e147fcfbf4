"""The wheel holds the service and its migrations, and nothing of the tests; it migrates where no checkout is."""

import asyncio
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import app
from app import migrate
from tests.databases import empty_database, query

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip wheel --no-build-isolation` does it, but without pip, which might look for something."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    [built] = directory.iterdir()
    return built


def test_the_wheel_holds_the_package_and_the_migrations(wheel: Path) -> None:
    assert wheel.name == f"polytag-{app.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        *(f"app/{path.relative_to(ROOT / 'app')}" for path in files_in(ROOT / "app")),
        *(f"app/_migrations/{path.relative_to(ROOT / 'migrations')}" for path in files_in(ROOT / "migrations")),
    }
    assert "app/_migrations/env.py" in expected

    assert {name for name in names if ".dist-info/" not in name} == expected
    assert f"polytag-{app.__version__}.dist-info/entry_points.txt" in names


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


async def test_the_wheel_migrates_by_itself(wheel: Path, server_url: str, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = "import sys; from app import migrate; migrate.upgrade(sys.argv[1]); print(migrate.__file__)"

    async with empty_database(server_url) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            url,
            cwd=tmp_path,
            # Before the checkout, which an editable installation puts on the path.
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        assert Path(said.decode().strip()) == tmp_path / "app/migrate.py"
        assert await query(url, "select version_num from alembic_version") == [(migrate.newest_revision(),)]


def test_a_checkout_has_its_migrations_beside_the_package() -> None:
    assert not (ROOT / "app/_migrations").exists()
    revisions = [path.name for path in (ROOT / "migrations/versions").glob("*.py")]
    assert any(name.startswith(f"{migrate.newest_revision()}_") for name in revisions)


def test_an_installation_without_migrations_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "migrations").mkdir()
    monkeypatch.setattr(migrate, "__file__", str(tmp_path / "app/migrate.py"))
    with pytest.raises(RuntimeError, match="migrations are missing"):
        migrate.newest_revision()
