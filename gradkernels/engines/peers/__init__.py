"""BackPACK and Opacus as kernels: the same problem and the same quantities, computed by these libraries.

1. `backpack` and `opacus` say what each cannot do: its own checks, and what it would get wrong without a word.
   `reasons` says a reason once for all layers that it holds for.
2. `model_copy` copies the model for the library to wrap, hook and write to. At each call the copy's parameters refer to
   theta; a copy that something failed on is thrown away.
3. Before a kind of batch is computed for the first time, `sample_order` looks whether the model leaves samples in their
   places, since libraries take the i-th entry for the i-th sample; `shape_only` tells functions that place data by
   their shapes alone. `random_state` refuses what draws random numbers.
4. The kernel runs the library's backward pass on the sum of the losses, so that no 1/n is in it, and `results` collects
   what it left on the parameters.
"""
