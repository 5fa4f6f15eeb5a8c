"""What is made of a step's gradients.

1. A `measure` is a quantity of one backward pass: an accumulator, called as gradients arrive, and its result when all
   have. `measures` has those with a value for each sample, and the list of all; `sums` those that are sums of samples,
   `weighted` those by weights or groups of the batch.
   `squared_norms` takes norms with few operations for each layer, of linear maps by `step_products`; what has waited
   in a known graph is squared by `waiting_norms`, of which maps by `waiting_maps` with the products of `own_products`.
2. `summaries`: a step's value from those of its backward passes, and the few numbers that are kept of it.
3. `history`: a list of these, and the table of them.

Adding a quantity to what can be watched is a class beside these and an entry in `MEASURES`; a summary of its own
where the mean, median and largest entry say too little.

Nothing here knows of models, of calls or of losses: only of what arrives for a number of samples.
"""
