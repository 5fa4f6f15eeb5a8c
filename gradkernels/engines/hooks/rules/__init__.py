"""How boundaries are run forward, and what they make of their output's gradient.

`table` is the list: which function has which rule. A rule runs the call, makes a `ParameterUse` from the call's inputs
with the samples first, and has the tape listen for the output's gradient g.

1. `rule` states most rules: names of the arguments, which may be parameters, for which samples' axes it holds, and the
   use. A call that it does not hold for goes to `vmap_call`, which differentiates any call by vmap of its vjp.
2. The uses: `linear` (linear maps, products, convolutions), `lookup` (tables of vectors), `recurrent` (RNN, GRU,
   LSTM), `normalization`, `activation`, `arithmetic` (parameters added or multiplied), `single_sample`.
3. `expanded` is for copies of a parameter for each sample, as of a class token, which come without data.
   `made` has weights that are made of parameters alone (masks, weight and spectral norm, merged LoRA, scales): a use
   of one becomes uses of these parameters. `kept_data` makes the uses of another pass from autograd's graph.

From g a use writes rows, or gives squared norms and sums without rows where its algebra allows; `materialized` is for
rows so small that they are formed anyway. Where several ways give the same, `autotune` measures once which is fastest;
`blocks` says how many samples are computed at a time.
"""
