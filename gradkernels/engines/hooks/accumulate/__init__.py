"""What is made of gradients as they arrive, one use after another, during a backward pass.

An accumulator is called with each `ParameterUse` and the gradient of its output, samples first; `finish` gives the
result when the backward pass is over.

- `accumulators`: rows in their place (`RowWriter`), squared norms (`SquaredNorms`), weighted sums (`RowSums`).
- `book_keeping`: norms, then weighted sums, from what is kept of one backward pass.
- `grouped_sums`: the same by groups of parameters, each summed as soon as it is complete.
- `deviations`: sums of rows and of their squares (`RowMoments`), and of squares around the mean, where the difference
  of two large sums would lose digits.
- `row_memory`: memory for rows that several uses write to or add to, blocks of a parameter included.
- `pieces`: rows of some samples at a time, and inner products of each two pieces, within a limit of memory.
- `pulling`: rows of what was made of parameters, turned into theirs.
- `single_uses`: which parameters have one use, so that their norms may be added up use by use.
- `merging`: uses of one linear weight, as in a loop over cells, made one with the steps of all.
- `products`: inner products of rows with directions (`RowsAlong`) and of each two samples' rows, whole or by groups of
  parameters (`RowGrams`), and squared norms of each parameter (`SquaredNormsByParameter`).
- `weighted_sums`: sums for several weightings (`SeveralRowSums`), or by groups of samples (`GroupSums`).
- `projections`: random projections of rows, by the matrices that `random_matrices` makes and keeps.
- `inner_products`: norms of parameters with several uses, such as a table that is also the last layer's weight, from
  products of the uses, without rows.

A parameter with one use is dealt with at once, without rows where its use's algebra allows. The uses of one that has
several are kept until the end, because norms and squares need their sum.
"""
