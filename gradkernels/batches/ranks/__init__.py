"""Passes over batches in several processes: under torch.distributed each rank goes through its own samples.

A call such as `gk.over(loader).gradient(problem)` is then made by every rank, each with a loader of its own:

1. `wrapped` takes the module out of a DistributedDataParallel; `sharded` gathers the parameters of one that
   `fully_shard` has sharded into a twin, once for the whole pass;
2. each rank goes through its batches as ever, without a word to the others;
3. by `group` they then compare what each asked and with which parameters, and have the sums of all of them added up, or
   small rows put side by side. What ends a rank ends the others there, with a sentence, within the group's timeout.

Norms and rows stay where they are, and no gradients of single samples ever travel. Nothing here loads torch: without a
process group there is one rank.
"""
