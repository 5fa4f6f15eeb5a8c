"""Beyond memory and beyond one machine: regressions on dask arrays, whose rows are in blocks that are made when needed.

A call with dask arrays goes the way of any other until `gradkernels.dispatch` finds no arrays that a kernel takes, and
comes here with what computes a block:

1. `lazy_arrays` tells dask's arrays without loading dask; `blocked` cuts all of a call's arrays at the same rows, and
   refuses blocks of unknown length, of columns or of other libraries; `lazy_options` does so with options;
2. `lazy_results` chooses the kernel once, for the largest block and one thread, and makes dask arrays of what is asked:
   `block_results`, a task for each block, side by side, or merged by a tree;
3. `block_task` is what a worker runs: it looks at its block, computes by that kernel on `one_thread`, and says which
   block was bad;
4. `merging` has for each sum or mean how results of blocks become that of all rows.

`cluster` starts workers on this machine, where by `task_groups` several blocks are one task. `files` opens what lies on
disk as dask arrays: `tables`, Parquet and CSV, and `array_files`, NPY and Zarr. `gradkernels` loads none of this, and
no dask, before there is a dask array.
"""
