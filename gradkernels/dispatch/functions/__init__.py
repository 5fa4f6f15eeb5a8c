"""How a kernel is chosen, proven and called for a JAX function.

What a compiled function computes depends on shapes and not on entries, so that what is settled for one kind of batch
holds for all of that kind: `dispatcher` has the choice made (`gradkernels.dispatch.select`), the kernel proven on a few
of the caller's own samples (`proof`), and keeps it; calls 2, 4, 8 and so on of the kind repeat that on others, and a
function that finds other values around it than before is compiled and proven anew. A kernel that cannot be traced or is
wrong makes room for the next one, whether that shows in the proof or in a later call. Where no measurement says which
of the proven ones is fastest, `trial` has them take turns on the batch, once for each kind.

What goes in and comes out has the structure of the caller's params; `results` puts the arrays of a result back into it.

Calls within a caller's own `jax.jit` take the kernel that was settled before for arrays of these shapes.
"""
