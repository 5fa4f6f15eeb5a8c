"""One pass over batches: loaded ahead, made arrays of theta's library, and each computed by a function of `gk`.

`stream` goes through what a loader yields:

1. `prefetch` has a thread load the next ones while one is computed with;
2. `batch` makes of what is yielded x and y where theta is, counts samples, and takes `digests` where they are to be
   known again;
3. `batch_call` computes the quantity of a batch, with its part of options by sample, or names the batch in an error;
4. `progress` says how far it is, and what is left.

What becomes of the results is no question here.
"""
