"""The OpenAPI documents against the service that serves them, by schemathesis."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.frontend import FrontEnd
from app.main import FRONT_ENDS
from app.openapi import routes_of
from tests.test_server import clean_environment

HERE = Path(__file__).parent
SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")


@dataclass(frozen=True, slots=True)
class Run:
    """One front end, with the key sent by one of its security schemes."""

    front_end: FrontEnd
    scheme: str

    @property
    def name(self) -> str:
        return f"{self.front_end.slug} by {self.scheme}"

    @property
    def is_first(self) -> bool:
        """Whether the front end has no other scheme before this one."""
        assert self.front_end.about is not None
        return self.scheme == next(iter(self.front_end.about.security_schemes))

    @property
    def size(self) -> int:
        """The number of operations, by which time is shared out."""
        return sum(len(route.methods or ()) for route in routes_of(self.front_end))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who the fuzzer is in a front end: a workspace of its own, so that no run sees what another left."""

    key: str
    key_id: str
    client: str
    audience: str


RUNS = [
    Run(front_end, scheme)
    for front_end in FRONT_ENDS.values()
    if front_end.about is not None
    for scheme in front_end.about.security_schemes
]


def fuzz(run: Run, address: str, holder: Holder, directory: Path, *options: str, seed: int) -> str | None:
    """What was found, in schemathesis's words; None if nothing was. `options` say how long it goes on."""
    config = directory / "schemathesis.toml"
    config.write_text((HERE / "schemathesis.toml").read_text() + _authentication(run, holder.key))
    base = address + run.front_end.mount
    done = subprocess.run(
        [SCHEMATHESIS, "--config-file", config, "run", f"{base}/openapi.json", "--seed", str(seed), *options],
        cwd=directory,
        env=clean_environment(
            FUZZ_BASE_URL=base,
            FUZZ_FRONT_END=run.front_end.slug,
            FUZZ_KEY_ID=holder.key_id,
            FUZZ_CLIENT=holder.client,
            FUZZ_AUDIENCE=holder.audience,
            PYTHONPATH=os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]),
            COLUMNS="160",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stdout


def _authentication(run: Run, key: str) -> str:
    """The table by which schemathesis sends the key. Its checks of authentication know of no header set otherwise."""
    assert run.front_end.about is not None
    scheme: Mapping[str, object] = run.front_end.about.security_schemes[run.scheme]
    if scheme["type"] == "http":
        return f"\n[auth.openapi.{run.scheme}]\nbearer = {json.dumps(key)}\n"
    # A scheme of its own in `Authorization` is described as a header with its word.
    value = f"Token {key}" if scheme["name"] == "Authorization" else key
    return f"\n[auth.openapi.{run.scheme}]\napi_key = {json.dumps(value)}\n"
