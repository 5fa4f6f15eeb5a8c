"""Uses of parameters as they are recorded: where the hooks look at values or measure, something that does neither.

A rule of the hooks may choose by what the data hold, or time several ways and take the fastest. Recorded, that would be
the choice of a moment without data.

- `recorded_uses`: which kind of layer is recorded how; algebra for linear maps and tables.
- `made_weights`: masked weights and those with weight norm.
- `doubts`: marks for samples whose numbers are computed again by the hooks.
- `plain_uses`: what is recorded as it is, whatever layer it is of; `whole_uses`: what is one operation.
- `callers_rule`: a caller's own rule of clipped sums, which is called as one operation.
- `whole`: that operation: a method of a use, run by the hooks' own code on the real tensors.

`gradkernels.engines.recorded.functions` gives gradients as they arrive to consumers that get uses in this form.
"""
