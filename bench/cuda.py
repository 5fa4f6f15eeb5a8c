"""The tables of `python bench/over_batch` on one GPU: at most 8 minutes, into results/cuda.csv.

    python bench/cuda.py                               # where torch sees a GPU
    python bench/cuda.py --device cpu --models mlp --sizes 8 --minutes 2 --out /tmp/cuda.csv     # its logic, without

Slices are timed by CUDA events around them, after all earlier work has finished; peaks are those of torch's
allocator. The others are Opacus in its modes, BackPACK and vmap, as on the CPU. All options are those of
`bench/over_batch`.
"""

from __future__ import annotations

import sys
from pathlib import Path

BENCH = Path(__file__).parent
DEFAULTS = {
    "device": "cuda",
    "sizes": "16,128,1024",
    "threads": "1",
    "minutes": 7.0,  # the last cell and its process may take a while longer
    "seconds": 0.3,
    "patience": 40.0,
    "out": BENCH.parent / "results" / "cuda.csv",
}

if __name__ == "__main__":
    sys.path.insert(0, str(BENCH / "over_batch"))
    from batch_main import main

    raise SystemExit(main(**DEFAULTS))
