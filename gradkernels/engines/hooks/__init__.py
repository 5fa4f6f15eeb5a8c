"""Per-sample gradients of any module from one forward and one backward pass: the ways called `torch.hooks`.

1. `following` is the entry: a pass that is followed, whoever runs it. `engine` runs a problem's model forward through
   it and hands out a `ForwardPass` that can be differentiated; `gradkernels.watch` leaves model and loss to the caller.
2. `capture` sees every call of a torch function in it, and follows which axis of each tensor the samples lie along.
   A call that brings parameters and data together is a boundary: its output's gradient, which the backward pass gives
   for all samples at once, and its inputs determine the gradient of the parameters for each sample.
3. `rules` run a boundary forward and keep a `ParameterUse` of it: for the usual layers a rule says how rows, norms and
   sums follow (after Goodfellow 2015, arXiv:1510.01799; Rochette et al. 2019, arXiv:1912.06015, for convolutions); any
   other call is differentiated alone, by vmap of its own vjp.
4. The backward pass gives each use its gradient. `accumulate` has what is made of them: rows in their place, squared
   norms, sums, moments. Parameters with several uses are put together there.
5. `quantities` joins these into the computes that kernels return, chunk by chunk; `products` those of inner products
   and weighted sums, `pairs` those of each two samples, `clipped_sums` those of sums
   cut by groups of parameters, `outputs` those of all outputs of a sample instead of one loss.

Where samples cannot be told apart, or a gradient would be left out, an `Unfit` (`errors`) says why, in the forward
pass or when a gradient would come back; the caller then takes another kernel.

`parameter_use` is what rules return and accumulators take; `shared_pass` keeps what arrived for several computations;
`arguments` finds tensors among a call's arguments; `precision` says in which dtype squares are added, and `symmetric`
multiplies rows with each other.
"""
