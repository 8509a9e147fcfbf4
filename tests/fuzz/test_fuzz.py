"""A short look of what `make fuzz` does at length: the same checks, from one seed, with few examples of each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.main import FRONT_ENDS
from tests.fuzz import contract, garbage
from tests.fuzz.service import FuzzedService

SEED = 1
EXAMPLES = 3
PIECES_OF_GARBAGE = 300


@pytest.fixture(scope="module")
def service() -> Iterator[FuzzedService]:
    with FuzzedService() as service:
        yield service
        assert service.examine() == []


@pytest.mark.parametrize("run", contract.RUNS, ids=lambda run: run.name)
def test_answers_are_as_the_document_says(service: FuzzedService, tmp_path: Path, run: contract.Run) -> None:
    options = ["--max-examples", str(EXAMPLES)]
    if not run.is_first:
        # The calls are the same as by the first scheme. What is looked at is whether they look at the key.
        options += ["--phases", "examples,fuzzing"]
    found = contract.fuzz(run, service.address, service.holder(run.name), tmp_path, *options, seed=SEED)
    assert found is None, found
    assert service.findings() == []


async def test_garbage_is_refused(service: FuzzedService) -> None:
    keys = {slug: service.holder(slug).key for slug in FRONT_ENDS}
    thrown, found = await garbage.throw(
        service.address, keys, seed=SEED, goes_on=lambda number: number < PIECES_OF_GARBAGE
    )
    assert (thrown, found) == (PIECES_OF_GARBAGE, [])
    assert service.findings() == []
