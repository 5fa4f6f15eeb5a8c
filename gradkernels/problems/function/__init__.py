"""Any JAX function of parameters and a batch as a problem.

`function_problem` is what people make: `gk.FunctionProblem(losses, params)`, where `losses(params, x, y)` gives a loss
of each sample and `params` is any pytree: nested dicts, lists, named tuples, the states of Flax, modules of Equinox.

Within the package theta is flat, as it is for modules: a dict from names to arrays, in the order of the names, which
is the order that JAX gives back dicts in. `pytree` takes params apart into that and puts results together again, so
that a caller gets gradients of the structure of params; `drawing` makes the numbers that kernels are proven and timed
on, where no caller's data are at hand; `requirements` says in words what does not fit. `closure` sees whether what the
function finds around it has changed, since what is compiled and proven holds for what was there.

JAX is imported when a problem is made, not before.
"""
