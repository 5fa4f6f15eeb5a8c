"""What each quantity costs over a plain forward and backward pass, beside the libraries that a user would pick for it.

    python bench/quantities                                           # about 25 minutes, gradkernels[all], a quiet core
    python bench/quantities --models mlp,bert --sizes 64 --quantity gram,inner --budget 3min
    python bench/quantities --show                                    # the tables of the file again

Each model has a process of its own. All ways of a model, size and quantity take turns with a plain pass of the same
batch, and each result is held against samples' own float64 gradients before it is timed. Rows are appended to
`results/quantities.csv`, whose columns `results/README.md` explains, and what it has already is not measured again: a
run that was stopped, or left cells out for lack of time, goes on when it is called again.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[1:1] = [str(FOLDER / "peers"), str(FOLDER.parent / "over_batch")]

from quantity_main import main  # noqa: E402

raise SystemExit(main())
