"""Print the survivors of the last `mutmut run` for which tests/survivors.toml gives no reason."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

MUTMUT = Path(sys.executable).with_name("mutmut")
REASONS = tomllib.loads(Path(__file__).with_name("survivors.toml").read_text(encoding="utf-8"))


def mutmut(*arguments: str) -> list[str]:
    return subprocess.run([MUTMUT, *arguments], check=True, capture_output=True, text=True).stdout.splitlines()


def function(mutant: str) -> str:
    """Return the dotted name of what was changed: `a.b.xǁClassǁmethod__mutmut_3` is in `a.b.Class.method`."""
    module, _, name = mutant.rpartition("__mutmut_")[0].rpartition(".")
    return f"{module}.{name[2:].replace('ǁ', '.') if name.startswith('xǁ') else name.removeprefix('x_')}"


def main() -> int:
    """Return 1 where a survivor is unexplained."""
    left = [line.split(":")[0].strip() for line in mutmut("results") if re.search(r": (survived|no tests)$", line)]
    unexplained = 0
    for mutant in left:
        diff = mutmut("show", mutant)
        added = [line[1:].strip() for line in diff if re.match(r"\+[^+]", line)]
        # A line that was taken away is told by its minus.
        changed = added or [f"-{line[1:].strip()}" for line in diff if re.match(r"-[^-]", line)]
        if not any(line in REASONS.get(function(mutant), {}) for line in changed):
            unexplained += 1
            print(mutant, *(f"  {line}" for line in changed), sep="\n")
    print(f"{len(left)} survivors, {unexplained} without a reason")
    return min(unexplained, 1)


if __name__ == "__main__":
    sys.exit(main())
