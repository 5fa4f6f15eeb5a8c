"""Proofs on a caller's own data, for models of which nothing is known but that they compute.

A kernel is proven before it is first used on a kind of model and batch, and looked at again while a program runs:

1. `verdicts` keeps one verdict for each kernel and mode key, and has it proven where there is none;
2. `independence` makes sure that samples have gradients of their own, which no kernel is to blame for;
3. `proof` calls the kernel twice on a few samples of the caller's;
4. `result_structure` looks at structure, dtype, shape and memory of what came out;
5. `sample_passes` computes the same samples one at a time, in the caller's dtype and mode, and those of an
   `audited_call`; `held_passes` says which of them, of outputs a few of each sample;
6. `result_checks` compares entry by entry as these come, `definition_check` with what a quantity's definition makes of
   them; `choose_check` knows which.

`reference` is the float64 reference that kernels are timed against: a backward pass for each sample, by `model_pass`.
"""
