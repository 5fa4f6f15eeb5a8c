"""What per-sample gradients cost over a plain batch: many models, sizes and quantities, ours beside other libraries.

    python bench/over_batch                                      # about 25 minutes, gradkernels[all], two quiet cores
    python bench/over_batch --models mlp,bert --sizes 16,128 --quantities norms --threads 1 --minutes 3
    python bench/over_batch --show                               # the tables of the file again

Each model has a process of its own for each number of threads. All kernels of a model, size and quantity take turns
with a plain forward and backward pass of the batch, each proven before. Rows are appended to a results file
(`gradkernels.record`), and what it has already is not measured again: a run that was stopped, or left sizes out for
lack of time, goes on when it is called again. A kernel that ends its process or hangs costs its own cells.
"""

from batch_main import main

raise SystemExit(main())
