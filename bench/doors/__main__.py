"""Every door's rows of results/doors.csv, one script after the other, each in a process of its own, on one thread.

`python bench/doors` measures all doors; `python bench/doors jax laplace` those; `--but opacus` all but that one.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
DOORS = sorted(one.stem.removesuffix("_door") for one in HERE.glob("*_door.py"))

SETTINGS = {f"{pool}_NUM_THREADS": "1" for pool in ("OMP", "OPENBLAS", "MKL", "NUMBA")} | {"TQDM_DISABLE": "1"}
"""Threads of one library that wait for work are no neighbours for those of another."""


def main():
    parser = argparse.ArgumentParser(prog="python bench/doors", description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"Of {', '.join(DOORS)}; all if none is named.")
    parser.add_argument("--but", action="append", default=[], choices=DOORS, help="Leave this one out.")
    given = parser.parse_args()
    if unknown := [one for one in given.doors if one not in DOORS]:
        parser.error(f"there is no door {unknown[0]!r}; there are {', '.join(DOORS)}")
    failed = []
    for door in [one for one in given.doors or DOORS if one not in given.but]:
        began = time.monotonic()
        command = [sys.executable, HERE / f"{door}_door.py"]
        if subprocess.run(command, env=os.environ | SETTINGS, check=False).returncode:
            failed.append(door)
        print(f"{door}: {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"not measured to the end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
