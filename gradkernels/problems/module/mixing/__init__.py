"""Whether the loss of a batch is the mean, or the sum, of its samples' own losses.

A per-sample gradient is that of the loss of a batch of one. Token means over a padded batch, class weights and ignored
targets weigh samples otherwise; contrastive losses compare them with each other. A caller has to hear of either.

1. `check_schedule` says when a loss is looked at: calls 1, 2, 4, 8, ... of each kind of batch;
2. `batch_loss` differentiates the batch's loss and its samples' own, as far as the model's output;
3. `compare` tells from both gradients whether they agree, are weighed (one warning) or mixed (a refusal).

`mixing="own"` of a ModuleProblem says that the samples' own losses are meant, and skips all of this.
"""
