"""Where the samples are in the output of a torch function, from where they are in its arguments.

Nothing here looks at what a tensor holds but the indices by which entries are picked: a rule says what a function does
to axes, for the functions that are listed; samples are never recognised by their values. What has no rule, or takes
samples together, gives a tensor through which no gradient may come back (`gradkernels.engines.hooks.capture.tape`).

A call comes in as a `tracked_call.TrackedCall`; `output_axis` finds the rule by the function's name and checks that
what it says fits the output's shape. The rules, by what functions do to axes:

- `pointwise`: entries at the same place, after broadcasting;
- `shapes`: the same entries in other axes;
- `dimwise`: reductions, softmax, sorting along some axes;
- `structured`: axes of fixed meaning, as of products, convolutions and attention;
- `indexing`: `x[index]` and `x[index] = value`.
"""
