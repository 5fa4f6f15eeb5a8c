"""Audits of other libraries' per-sample gradients, on the models of the zoo and on some with a peculiarity each.

`python bench/audits` audits each library that is installed on each model and writes results/audits.csv;
`python bench/audits --tool opacus --model tied` only those. `--table models`, `--table wrong` and others print what the
page docs/audits has of that file.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from audit_main import main

if __name__ == "__main__":
    sys.exit(main())
