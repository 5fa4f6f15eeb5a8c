"""The machinery that kernels are made of: how a way computes, apart from which way it is.

A module of `gradkernels.kernels` declares a way; its `build` takes a problem and returns a compute, most of which comes
from here. Nothing but kernels imports an engine, and each loads its array library only when a kernel is built.

What an engine gets is a problem and then, at each call, `theta, x, y` with samples first; what it returns is the
quantity, of theta's structure or `(n,)`. In between it goes its own way:

- `closed`: regressions by hand, in blocks of rows, for numpy and torch;
- `fused`: regressions in one pass over the data, compiled by numba from the problem's slope;
- `vmap`: any problem of torch, the gradient of one sample's loss under `torch.func.vmap`;
- `hooks`: any module, from one forward and one backward pass that are looked at from outside;
- `forward`: any module, along a direction, from one pass of dual numbers and no backward pass;
- `recorded`: what the hooks do, as a line of operations that an interpreter runs;
- `compiled`: what vmap or the hooks compute of a module, recorded and given to torch.compile;
- `taps`: any JAX function, from the equations of one sample's loss and what arrives at taps on them;
- `peers`: BackPACK and Opacus, on copies of the model.

What is built for a model holds for its present modes and settings only; `state_cache` keeps it for a few of these.
`compiled` stands on `recorded`, that, `forward`, `peers` and `taps` on `hooks`; `hooks` and `closed` on `vmap`, `fused`
and `state_cache`.
"""
