"""The container files, without an engine to run them: they are linted, and what they lean on is there.

Each check is a function from the files' text to a list of faults, so that it can be shown to find one.
"""

import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

import app
from app.config import Settings

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()

# A check takes the text of one file, and says what is wrong with it.
Check = Callable[[str], list[str]]


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str

    def words(self) -> list[str]:
        """The arguments, whether they are written as JSON or as shell."""
        try:
            return [str(word) for word in json.loads(self.arguments)]
        except ValueError:
            return shlex.split(self.arguments)


@dataclass(frozen=True)
class Stage:
    base: str
    name: str | None
    instructions: list[Instruction]

    def of(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]


def stages_of(dockerfile: str) -> list[Stage]:
    """The stages of a Dockerfile; the last one is the image."""
    without_comments = "\n".join(line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", " ", without_comments).splitlines():
        if not line.strip():
            continue
        name, _, arguments = line.strip().partition(" ")
        if name == "FROM":
            base, *alias = re.split(r"\s+AS\s+", arguments.strip())
            stages.append(Stage(base, alias[0] if alias else None, []))
        else:
            stages[-1].instructions.append(Instruction(name, arguments.strip()))
    return stages


def hadolint(dockerfile: str) -> list[str]:
    linted = subprocess.run(
        [BIN / "hadolint", "--no-color", "-"], input=dockerfile, capture_output=True, text=True, check=False
    )
    return linted.stdout.splitlines() if linted.returncode else []


def sources(dockerfile: str) -> list[str]:
    """What is copied exists, and is let through to the build."""
    faults = []
    stages = stages_of(dockerfile)
    for stage in stages:
        for instruction in [*stage.of("COPY"), *stage.of("ADD")]:
            options = [word for word in instruction.words() if word.startswith("--")]
            paths = [word for word in instruction.words() if not word.startswith("--")][:-1]
            from_stages = [option.removeprefix("--from=") for option in options if option.startswith("--from=")]
            if from_stages:
                faults += [f"no stage {name}" for name in from_stages if name not in {one.name for one in stages}]
                continue
            for path in paths:
                if not (ROOT / path).exists():
                    faults.append(f"{path} does not exist")
                elif is_ignored(path, (ROOT / ".dockerignore").read_text()):
                    faults.append(f"{path} is kept out by .dockerignore")
    return faults


def is_ignored(path: str, dockerignore: str) -> bool:
    """Whether a .dockerignore keeps a path out: the last pattern that fits it, or a directory above it, decides."""
    ignored = False
    for line in dockerignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        excepted = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip("/")
        candidates = [PurePosixPath(path), *PurePosixPath(path).parents][:-1]
        if any(fnmatch(str(part), pattern) or fnmatch(f"/{part}", pattern) for part in candidates):
            ignored = not excepted
    return ignored


def installs(dockerfile: str) -> list[str]:
    """The runtime lock is installed, by its hashes, and nothing else; tools stay behind in the stage that builds."""
    faults = []
    *_, image = stages = stages_of(dockerfile)
    locks = 0
    for stage in stages:
        for instruction in stage.of("RUN"):
            for words in commands_of(instruction):
                if {"apt", "apt-get", "apk", "curl", "wget", "uv", "git"}.intersection(words):
                    faults.append(f"{words[0]} brings what no lock holds")
                if "install" not in words or not any("pip" in word for word in words):
                    continue
                if stage is image:
                    faults.append("the last stage installs")
                locks += 1
                arguments = words[words.index("install") + 1 :]
                faults += [f"{option} is missing" for option in NEEDED_OPTIONS if option not in arguments]
                named = [
                    word
                    for before, word in zip(["", *arguments], arguments, strict=False)
                    if not word.startswith("-") and before not in {"-r", "--requirement"}
                ]
                files = [
                    word
                    for before, word in zip(["", *arguments], arguments, strict=False)
                    if before in {"-r", "--requirement"}
                ]
                faults += [f"{name} is installed by name" for name in named]
                faults += [f"{name} is not the lock" for name in files if Path(name).name != "requirements.lock"]
    return faults if locks == 1 else [*faults, f"{locks} installations"]


NEEDED_OPTIONS = ("--require-hashes", "--no-deps", "--no-cache-dir", "--only-binary=:all:")


def commands_of(instruction: Instruction) -> Iterator[list[str]]:
    """The commands that a RUN holds."""
    command: list[str] = []
    for word in [*instruction.words(), ";"]:
        if word in {"&&", "||", ";", "|"}:
            if command:
                yield command
            command = []
        else:
            command.append(word)


def process(dockerfile: str) -> list[str]:
    """The process gets its signals itself, is not root, and is asked after its health by what the image has."""
    *_, image = stages_of(dockerfile)
    faults = []
    commands = [one.arguments for one in image.of("CMD")]
    if commands != ['["polytag", "serve"]'] or image.of("ENTRYPOINT"):
        faults.append(f"the command is {commands}")
    users = [one.arguments for one in image.of("USER")]
    if not users or not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1]):
        faults.append(f"runs as {users}")
    checks = [one.arguments for one in image.of("HEALTHCHECK")]
    if not (len(checks) == 1 and "/healthz" in checks[0] and re.search(r'CMD \["python"', checks[0])):
        faults.append(f"health is asked for by {checks}")
    if [one.arguments for one in image.of("STOPSIGNAL")] not in ([], ["SIGTERM"]):
        faults.append("another signal than SIGTERM")
    if "POLYTAG_HOST=0.0.0.0" not in " ".join(one.arguments for one in image.of("ENV")).split():
        faults.append("listens inside its container only")
    return faults


def versions(dockerfile: str) -> list[str]:
    """The label names this version, and both stages are one Python that the project can run on."""
    stages = stages_of(dockerfile)
    faults = []
    if [one.arguments for one in stages[-1].of("ARG")] != [f"VERSION={app.__version__}"]:
        faults.append(f"the version is not {app.__version__}")
    if 'org.opencontainers.image.version="${VERSION}"' not in " ".join(one.arguments for one in stages[-1].of("LABEL")):
        faults.append("no label of the version")
    if len({stage.base for stage in stages}) != 1:
        faults.append("the stages have different bases")
    python = re.match(r"python:3\.(\d+)-slim", stages[-1].base)
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert least is not None
    if python is None or int(python[1]) < int(least[1]):
        faults.append(f"{stages[-1].base} is no small image of a Python {PROJECT['requires-python']}")
    return faults


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def settings(text: str) -> list[str]:
    """Every setting that is named exists: a mistyped one would be without effect, and nobody would be told."""
    known = {f"POLYTAG_{name.upper()}" for name in Settings.model_fields}
    without_comments = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [f"no setting {name}" for name in re.findall(r"POLYTAG_\w+", without_comments) if name not in known]


def compose_schema(compose: str) -> list[str]:
    checked = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "--default-filetype", "yaml", "-"],
        input=compose,
        capture_output=True,
        text=True,
        check=False,
    )
    return (checked.stdout + checked.stderr).splitlines() if checked.returncode else []


def references(compose: str) -> list[str]:
    """What a service names elsewhere in the file is there. The schema does not look."""
    document = yaml.safe_load(compose)
    services: dict[str, Any] = document["services"]
    faults = []
    used_volumes: set[str] = set()
    for name, service in services.items():
        depends_on = service.get("depends_on", {})
        faults += [f"{name} depends on no service {other}" for other in depends_on if other not in services]
        for other, how in depends_on.items() if isinstance(depends_on, dict) else []:
            wants_health = how.get("condition") == "service_healthy"
            # The service's own check is in its image.
            if wants_health and "healthcheck" not in services.get(other, {}) and "build" not in services.get(other, {}):
                faults.append(f"{name} waits for the health of {other}, which has no check")
        volumes = [
            volume.get("source", "") if isinstance(volume, dict) else volume.split(":")[0]
            for volume in service.get("volumes", [])
        ]
        # Not a path, hence a name.
        used_volumes.update(volume for volume in volumes if volume and volume[0] not in "./~$")
        for kind in ("networks", "secrets", "configs"):
            named = [item["source"] if isinstance(item, dict) else item for item in service.get(kind, [])]
            faults += [f"{name} has no {kind} {item}" for item in named if item not in document.get(kind, {})]
        if isinstance(build := service.get("build"), str) and not (ROOT / build / "Dockerfile").is_file():
            faults.append(f"{name} has nothing to build in {build}")
        for port in service.get("ports", []):
            if not str(port).startswith(("127.0.0.1:", "${BIND_ADDRESS:-127.0.0.1}:")):
                faults.append(f"{port} is open to all")
    faults += [f"no volume {volume}" for volume in used_volumes - set(document.get("volumes", {}))]
    faults += [f"volume {volume} is of no use" for volume in set(document.get("volumes", {})) - used_volumes]
    return faults


def variables(compose: str) -> list[str]:
    """Every variable has a default, is demanded, or stands in .env.example."""
    given = set(re.findall(r"^(?:# )?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    faults = []
    for text in scalars_of(yaml.safe_load(compose)):
        found = re.findall(r"\$(?:\{(\w+)([^}]*)\}|(\w+))", text.replace("$$", ""))
        for braced, rest, bare in found:
            if not rest.startswith((":-", "-", ":?", "?")) and (braced or bare) not in given:
                faults.append(f"{braced or bare} comes from nowhere")
            if rest.startswith((":?", "?")) and braced not in given:
                faults.append(f"{braced} is demanded, and .env.example does not tell of it")
    return faults


def scalars_of(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from scalars_of(key)
            yield from scalars_of(value)
    elif isinstance(node, list):
        for item in node:
            yield from scalars_of(item)
    else:
        yield str(node)


def data(compose: str) -> list[str]:
    """The database's data outlive its container, and no file that is committed holds its password."""
    postgres = yaml.safe_load(compose)["services"]["postgres"]
    faults = []
    # The image of 18 refuses to start with a volume at …/data, where those before it had theirs.
    if postgres["image"] == "postgres:18" and postgres.get("volumes") != ["postgres:/var/lib/postgresql"]:
        faults.append("the data are not in the volume")
    if not postgres["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?"):
        faults.append("the password is not demanded")
    return faults


OF_DOCKERFILE: tuple[Check, ...] = (hadolint, sources, installs, process, versions, settings)
OF_COMPOSE: tuple[Check, ...] = (compose_schema, references, variables, data, settings)


@pytest.mark.parametrize("check", OF_DOCKERFILE)
def test_the_dockerfile_is_right(check: Check) -> None:
    assert check(DOCKERFILE) == []


@pytest.mark.parametrize("check", OF_COMPOSE)
def test_the_compose_file_is_right(check: Check) -> None:
    assert check(COMPOSE) == []


@pytest.mark.parametrize(
    ("check", "good", "bad", "fault"),
    [
        (hadolint, "FROM python:3.13-slim-trixie", "FROM python", "DL3006"),
        (sources, "COPY migrations", "COPY migration", "migration does not exist"),
        (sources, "COPY app /", "COPY README.md /", "README.md is kept out by .dockerignore"),
        (sources, "--from=build", "--from=builder", "no stage builder"),
        (installs, "-r /tmp/requirements.lock", "-r /tmp/requirements-dev.lock", "requirements-dev.lock is not the"),
        (installs, "-r /tmp/requirements.lock", "-r /tmp/requirements.lock gunicorn", "gunicorn is installed by name"),
        (installs, "--require-hashes ", "", "--require-hashes is missing"),
        (installs, "--no-cache-dir ", "", "--no-cache-dir is missing"),
        (installs, "USER ", "RUN pip install .\nUSER ", "the last stage installs"),
        (installs, "USER ", "RUN apt-get update && apt-get install -y curl\nUSER ", "apt-get brings"),
        (process, 'CMD ["polytag", "serve"]', "CMD polytag serve", "the command is"),
        (process, "USER 10001:10001", "USER root", "runs as"),
        (process, "USER 10001:10001\n", "", "runs as"),
        (process, "/healthz", "/", "health is asked for by"),
        (process, "POLYTAG_HOST=0.0.0.0", "POLYTAG_HOST=127.0.0.1", "listens inside"),
        (versions, f"VERSION={app.__version__}", "VERSION=0.0.0", "the version is not"),
        (versions, "trixie AS build", "bookworm AS build", "the stages have different bases"),
        (versions, "python:3.13-slim", "python:3.10-slim", "no small image"),
        (settings, "POLYTAG_PORT=8000", "POLYTAG_PROT=8000", "no setting POLYTAG_PROT"),
    ],
)
def test_a_bad_dockerfile_is_found_out(check: Check, good: str, bad: str, fault: str) -> None:
    assert good in DOCKERFILE
    assert fault in "\n".join(check(DOCKERFILE.replace(good, bad)))


@pytest.mark.parametrize(
    ("check", "good", "bad", "fault"),
    [
        (compose_schema, "restart: unless-stopped", "restrat: unless-stopped", "restrat"),
        (references, "      postgres:\n        condition", "      database:\n        condition", "no service database"),
        (references, "      - postgres:/var", "      - pgdata:/var", "no volume pgdata"),
        (references, "volumes:\n  postgres:", "volumes:\n  postgres:\n  other:", "volume other is of no use"),
        (references, "    healthcheck:", "    x-healthcheck:", "which has no check"),
        (references, "    image: postgres:18", "    image: postgres:18\n    networks: [inner]", "no networks inner"),
        (references, "    image: postgres:18", "    image: postgres:18\n    secrets: [word]", "no secrets word"),
        (references, "build: .", "build: ./docker", "nothing to build in ./docker"),
        (references, "${BIND_ADDRESS:-127.0.0.1}:", "", "is open to all"),
        (variables, "${BIND_PORT:-8000}", "${HTTP_PORT}", "HTTP_PORT comes from nowhere"),
        (variables, "${BIND_PORT:-8000}", "$HTTP_PORT", "HTTP_PORT comes from nowhere"),
        (variables, "${POSTGRES_PASSWORD:?", "${DB_PASSWORD:?", "DB_PASSWORD is demanded"),
        (data, ":/var/lib/postgresql", ":/var/lib/postgresql/data", "the data are not in the volume"),
        (data, "${POSTGRES_PASSWORD:?copy .env.example to .env and set it there}", "secret", "is not demanded"),
        (settings, "POLYTAG_HOST", "POLYTAG_ADDRESS", "no setting POLYTAG_ADDRESS"),
    ],
)
def test_a_bad_compose_file_is_found_out(check: Check, good: str, bad: str, fault: str) -> None:
    assert good in COMPOSE
    assert fault in "\n".join(check(COMPOSE.replace(good, bad)))


def test_the_example_environment_names_settings_that_exist() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    examples = "\n".join(line.removeprefix("# ") for line in lines if "=" in line)

    assert "POLYTAG_" in examples
    assert settings(examples) == []
    # Nobody's password is one that stands in a repository.
    assert "POSTGRES_PASSWORD=" in lines


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("app", False),
        ("app/main.py", False),
        ("migrations/versions/0001_initial_schema.py", False),
        ("requirements.lock", False),
        ("app/routers/__pycache__/tags.pyc", True),
        (".env", True),
        (".git/config", True),
        ("tests/conftest.py", True),
        ("requirements-dev.lock", True),
    ],
)
def test_the_build_is_given_what_it_copies_and_nothing_else(path: str, *, ignored: bool) -> None:
    assert is_ignored(path, (ROOT / ".dockerignore").read_text()) == ignored


def test_the_command_of_the_image_is_that_of_the_project(tmp_path: Path) -> None:
    """The image writes the command itself, since building a wheel takes what no lock holds."""
    [script] = [
        one.arguments
        for stage in stages_of(DOCKERFILE)
        for one in stage.of("RUN")
        if "/opt/polytag/bin/polytag" in one.arguments
    ]
    (tmp_path / "bin").mkdir()
    # Not a link, which would take the interpreter out of its virtual environment.
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    subprocess.run(["sh", "-c", script.replace("/opt/polytag", str(tmp_path))], check=True)

    command = tmp_path / "bin/polytag"
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert shown.stdout.strip() == f"polytag {app.__version__}"
    module, function = PROJECT["scripts"]["polytag"].split(":")
    assert f"from {module} import {function}\n" in command.read_text()
    # A worker runs the file by another name, and must not become a second service.
    as_worker = f"import runpy; runpy.run_path({str(command)!r}, run_name='__mp_main__')"
    assert subprocess.run([sys.executable, "-c", as_worker], capture_output=True, check=True).stdout == b""


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (503, False), (None, False)])
def test_the_health_check_tells_well_from_ill(status: int | None, *, is_well: bool) -> None:
    *_, image = stages_of(DOCKERFILE)
    [check] = image.of("HEALTHCHECK")
    _, *arguments = json.loads(check.arguments.partition("CMD ")[2])

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" and status else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = server.server_address[1]
        thread = threading.Thread(target=server.handle_request)
        if status is None:
            server.server_close()
        else:
            thread.start()
        # A proxy that is meant for the way out must not be asked.
        environment = {**os.environ, "POLYTAG_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        checked = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False)
        if status is not None:
            thread.join()
    assert (checked.returncode == 0) == is_well
