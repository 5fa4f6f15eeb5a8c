"""Per-sample gradients inside of the caller's own training loop: `gk.watch`.

1. `watching` makes of a `request` what the caller holds, a `session`. `model_calls` tells it of each call of the
   model, by hooks that leave with it.
2. A call that is looked at is a `SeenCall` (`calls_seen`): the hooks engine follows it, and hears of the gradients of
   single uses in whatever backward pass the caller runs. `passes` says which inputs have the samples. Later calls whose
   graph is the same need not be followed (`graphs`): the uses are at the same nodes.
3. The first gradient of an output begins a `BackwardPass` (`backward`). What arrives of a set of samples
   (`sample_gradients`) goes to the measures of `values`, and to `completeness`, which holds it against what autograd
   gives the parameters. Where only norms are asked for in a known graph, gradients wait until all can be squared.
4. When the backward pass is over, `loss_root` reads off autograd's graph whether the loss is the mean or sum that was
   said; `steps` keeps the values, and a history of few numbers; `audit` has some samples go through the model alone;
   `clipping` puts sums into `.grad`.

What cannot be seen, or would be wrong, is a `CannotWatch` (`errors`).
"""

from gradkernels.watch.errors import CannotWatch as CannotWatch
from gradkernels.watch.session import Watch as Watch
from gradkernels.watch.watching import watch as watch
