"""Named set-ups of libraries, as their documentation shows them: `gk.audit_tool("opacus", problem, (x, y))`.

Each makes of a problem, whose model is a copy, a function `f(x, y)` that returns rows as `gk.per_sample` has them: each
sample's gradient of its unscaled loss. Where a library documents another scale, the set-up multiplies.

`set_ups` is the list, and `named_tools` finds the module of a name:

- `opacus` has the three kinds of GradSampleModule;
- `backpack` has BatchGrad;
- `torch_tools` has `vmap(grad(...))` of torch.func, and torch's expanded weights;
- `attribution` has what TRAK, dattri and captum attribute by;
- `laplace` has what laplace-torch's empirical Fisher is made of;
- `torchjd` has the Jacobian of the losses;
- `jax_privacy` has the clipped sums of functions of JAX.

`arguments` tells how a model is called. A library is imported when its set-up is made.
"""
