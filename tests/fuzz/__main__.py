"""`make fuzz`: the five APIs under requests that nobody thought of, for as long as one likes. See docs/testing.md."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import contract, garbage
from tests.fuzz.service import FuzzedService

# Of the time. What is left is schemathesis's.
_GARBAGE_SHARE = 0.15
# Where a key can be sent in several ways, the calls are the same by each.
_FURTHER_SCHEME = 0.4


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="how long, in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="what a run is made of (default: another each time)")
    parser.add_argument(
        "--front-end", choices=sorted({run.front_end.slug for run in contract.RUNS}), help="only this one"
    )
    options = parser.parse_args()
    seed = random.randrange(10**9) if options.seed is None else options.seed
    runs = [run for run in contract.RUNS if options.front_end in {None, run.front_end.slug}]
    _say(
        f"Seed {seed}. To repeat: make fuzz SEED={seed} SECONDS={options.seconds}"
        + (f" FRONT_END={options.front_end}" if options.front_end else "")
    )
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="polytag-fuzz-") as name, FuzzedService() as service:
        weights = [run.size * (1 if run.is_first else _FURTHER_SCHEME) for run in runs]
        for run, weight in zip(runs, weights, strict=True):
            seconds = max(5, round(options.seconds * (1 - _GARBAGE_SHARE) * weight / sum(weights)))
            began = time.monotonic()
            said = contract.fuzz(
                run, service.address, service.holder(run.name), Path(name), "--max-time", str(seconds), seed=seed
            )
            _say(f"{run.name}: {'clean' if said is None else 'FOUND SOMETHING'}, {time.monotonic() - began:.0f} s")
            if said is not None:
                found.append(f"{run.name}:\n{said}")
        keys = {run.front_end.slug: service.holder(run.front_end.slug).key for run in runs}
        thrown, said_of_garbage = asyncio.run(
            garbage.throw(
                service.address, keys, seed=seed, goes_on=garbage.for_seconds(options.seconds * _GARBAGE_SHARE)
            )
        )
        _say(f"garbage: {'clean' if not said_of_garbage else 'FOUND SOMETHING'}, {thrown:,} requests")
        found += [*said_of_garbage, *service.findings(), *service.examine()]
    for one in found:
        _say(f"\n{one}")
    _say(f"\n{len(found)} findings. Seed {seed}; docs/testing.md tells what to do." if found else "Nothing was found.")
    return 1 if found else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
