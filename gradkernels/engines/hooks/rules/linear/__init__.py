"""Rules for what is linear in a parameter: rows are products of inputs and output gradients.

- `linear`: y = a W^T + b, with any leading axes of a sample. Rows are g a^T, summed over these axes; norms follow from
  |g|^2 |a|^2, or from products of steps (`gram`); `outer_products` writes rows, or adds them by group.
- `bilinear`: a linear map of the products of two inputs' entries.
- `product`: `x @ W`, `addmm`, `bmm`, `einsum`. A parameter that is a matrix becomes the weight of a linear map; one of
  more axes (heads, experts) takes part in an einsum of data and gradients.
- `convolution`: a linear map of patches of the input (`patches`), or a convolution whose groups are the samples; which
  is faster is measured.
- `transposed_convolution`: a convolution with input and output exchanged.

A rule takes the call's arguments by name and makes the use from the data, samples first; the use then gets the gradient
of the output, samples first too.
"""
