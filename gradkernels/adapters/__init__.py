"""Doors from other libraries: one module a library, imported by its name alone.

`import gradkernels` loads none of them; each loads its library, which must be installed: `pip install
'gradkernels[doors]'` gets those that are named here. Nothing in these libraries is patched.

- `transformers`: a callback for its Trainer, which logs what `gk.watch` sees, and makes its steps private.
- `lightning`: one for its Trainer.
- `statsmodels`, `linearmodels`: `robust(result, groups=)`, standard errors without equal variances or within clusters.
- `sklearn`: a mixin that gives a linear estimator `per_sample_gradients_`.
- `opacus`: a PrivacyEngine in the place of its own, whose optimizers clip without per-sample gradients.
- `trak`: a gradient computer for TRAKer, of rows or of projections in the backward pass.
- `captum`: a TracInCP whose influences are inner products.
- `laplace`: backends for laplace-torch.
- `jax_privacy`: its `clipped_grad`, whose norms and sums come from taps.
- `dattri`: an AttributionTask whose gradient functions return the same rows, faster.

What several of them share:

- `noisy_steps` adds noise to clipped sums before the optimizer.
- `training` has what the callbacks need: names of logged numbers, several processes, the scale of a loss.
- `missing` says what to install.
- `sandwich` reads a fitted model as a problem, and makes its covariance.
- `model_call` makes a problem of a function of one sample that calls a model.
"""
