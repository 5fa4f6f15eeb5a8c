"""What is made of a step's gradients.

1. `measures`: for each quantity an accumulator, called as gradients arrive, and its result when all have.
2. `summaries`: a step's value from those of its backward passes, and the few numbers that are kept of it.
3. `history`: a list of these, and the table of them.

Adding a quantity to what can be watched is a class of `measures` and an entry in its `MEASURES`; a summary of its own
where the mean, median and largest entry say too little.

Nothing here knows of models, of calls or of losses: only of what arrives for a number of samples.
"""
