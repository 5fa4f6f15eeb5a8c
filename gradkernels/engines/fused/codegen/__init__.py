"""What compiled code of the fused engine is written with.

- `options`: how functions are compiled, and which may add in any order.
- `arrays`: checks and copies before addresses are taken.
- `pointers`: typed addresses, read and written without checks, for all memory layouts alike.
- `simd` and `arithmetic`: vectors of 64 bytes, loaded whole or in part, and what is done with them.
- `elementary`: `exp`, `where`, `clip` and others as the namespace `xp` that slopes are called with.
- `slopes`: a problem's slope as machine code, in numba's cache on disk under a name that changes with all its source.
- `threads`: chunks of a batch on Python's own threads, while compiled code holds no lock.

A slope is written by a user with operators and the functions of `xp`. `slopes.compiled_slope` compiles it for a block
of predictors and returns its address; drivers call that address once for each block. The other modules are what
drivers themselves are written with.
"""
