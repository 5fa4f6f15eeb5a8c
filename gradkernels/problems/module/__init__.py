"""Any `torch.nn.Module` and its loss as a problem.

`module_problem` is what people make; `black_box` says what the rest of the package may ask of it. What comes in:

1. `inputs` turns what a model is called with into trees of arrays, samples first, beside constants;
2. `requirements` refuses what has no gradient of each sample, and data that do not fit the model or each other;
3. `structure` lists the parameters and where they sit, and exchanges them for others; `input_writes` gives models that
   write to their inputs copies, `buffers` gives them copies of their own buffers; `random_state` seeds what they draw,
   and `differentiable` runs what torch does not differentiate as it is.

What comes out:

4. `output_axes` learns which tensors of an output have samples, `split_output` takes an output apart by that;
5. `sample_losses` makes the loss of each sample from a loss of batches, `outputs` the problem of the outputs alone.

`mixing` finds losses that are not the mean of their samples' own; `mode_key` is the key that changes whenever the
model computes something else; `conversion` takes all of it to numpy and back, for proofs and draws.
"""
