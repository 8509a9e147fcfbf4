"""The service under fuzzing: a real one, with a database of its own, and what must hold of it afterwards."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Self

import httpx

from tests.fuzz.contract import Holder
from tests.test_server import Service, polytag


class FuzzedService:
    """`polytag serve` on the bundled PostgreSQL in a temporary directory, without a rate limit."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="polytag-fuzz-"))
        # The server's user must get in.
        self._directory.chmod(0o755)
        self._data = {"POLYTAG_DATA_DIR": str(self._directory / "data")}
        self._holders: list[Holder] = []
        try:
            # From `warning` on: faults, and the access lines of answers from 500 on.
            self._service = Service(POLYTAG_RATE_LIMIT="off", POLYTAG_LOG_LEVEL="warning", **self._data)
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self.address = self._service.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def holder(self, name: str) -> Holder:
        """A key of a workspace that is new."""
        workspace = f"{name.lower().replace(' ', '-')}-{len(self._holders)}"
        made = polytag(
            "provision",
            "--workspace",
            workspace,
            "--client",
            "fuzzer",
            "--audience",
            "newsletter",
            "--json",
            **self._data,
        )
        assert made.returncode == 0, made.stderr
        told = json.loads(made.stdout)
        holder = Holder(key=told["key"], key_id=told["key_id"], client="fuzzer", audience="newsletter")
        self._holders.append(holder)
        return holder

    def findings(self) -> list[str]:
        """What is wrong with the service, its keys and its log."""
        found = []
        for holder in self._holders:
            answer = httpx.get(f"{self.address}/me", headers={"Authorization": f"Bearer {holder.key}"}, timeout=30)
            if answer.status_code != 200 or answer.json()["audience"] != holder.audience:
                found.append(f"a fuzzer's own key was no longer good, so that little was looked at: {answer.text}")
        found += [f"the log: {line.strip()}" for line in self._service.log]
        if self._service.process.poll() is not None:
            found.append(f"the service ended with {self._service.process.returncode}")
        return found

    def examine(self) -> list[str]:
        """What is wrong with its data."""
        doctor = polytag("doctor", **self._data)
        return [] if doctor.returncode == 0 else [f"polytag doctor:\n{doctor.stdout}{doctor.stderr}"]
