"""What several quantities share: parts of definitions, and how options of callers are looked at.

- `definitions` has lengths, means and weighted sums of rows, in operations that numpy, torch and `jax.numpy` share;
  half precision is computed in float32;
- `arguments` has checks of options: arrays of theta's structure, numbers of samples' groups, whole numbers, words;
  each returns what kernels take, or raises a sentence;
- `groups` has groups of parameters as a caller names them, `rules` those by which gradients are cut by their norms,
  `cut_options` both as a clipped sum is asked for;
- `outputs` has single outputs of samples as samples of their own, of which a Jacobian has a row each;
- `projections` makes the random matrices of `project` in blocks, the same in every process.

A quantity's file takes from here what it needs; nothing here knows a quantity. Options go from a caller through
`arguments` to a kernel, and come to a definition as arrays of its library.
"""
