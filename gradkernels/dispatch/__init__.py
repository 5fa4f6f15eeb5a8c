"""How a kernel is chosen, and kept right while a program runs.

A call of `gk.per_sample` and its siblings, or of `fastest_kernel` that hands out the kernel itself, goes this way:

1. `request` says what is to be computed, and what the caller asks for besides;
2. `select` asks `wisdom`, what was measured on this kind of `machine`, for the cheapest kernel, by the `costs` at the
   size in question; where nothing was measured, `rule` has an order;
3. `bind` proves the kernel for the problem and makes it a function of (theta, x, y); `keywords` adds the keyword of its
   quantity, such as `max_norm`, and `bound_kernels` finds it again at the next call;
4. for modules `dispatcher` runs it: kernels that fail or do not fit are set aside and the next one computes.
   `history` remembers that, `memory_limit` tells how many samples fit at once and cuts the batch accordingly; where no
   measurement says which kernel is fastest, `trials` have some take turns. What a call need not find out again, since
   one like it did, is in `kinds`;
   For JAX functions that is `functions`, where a kernel holds for all data of one kind;
5. `audit` holds some results of the running program against single-sample passes, ever after.

`pickling` lets a bound kernel travel to other processes, where it is bound anew.
"""
