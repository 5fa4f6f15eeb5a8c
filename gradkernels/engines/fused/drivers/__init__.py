"""Drivers: compiled loops that go through rows start to stop of a batch and write one quantity.

A driver gets `BatchPointers` (addresses, steps and sizes of theta, x, y, weights and result, the slope's address) and
memory of the size that its `*_workspace` function asks for. For each block of rows

1. `workspace` says where the block is, row by row, column by column, or copied into columns;
2. the predictors are computed by `rows` (entries of a row side by side), `columns` (entries of a column side by side)
   or `three_classes` (three classes at a time, which share what they load);
3. the slope is called, and weights are multiplied;
4. the driver uses slopes and features while they are in cache: `per_sample` writes rows, `norms` their norms,
   `sums` adds them up (gradient and clipped sum), `moments` adds deviations from a shift (`row_deviations`) too;
   `weighted` takes several weightings or directions at once, `outer` adds up outer products, or rows by group.

Sums move to float64 with their rounding errors after a few rows, so that large batches lose no digits.
"""
