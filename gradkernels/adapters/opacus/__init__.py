"""Opacus with gradkernels' clipped sums: `from gradkernels.adapters.opacus import PrivacyEngine` is the changed line.

1. `engine` has the `PrivacyEngine`: Opacus' own, whose model is prepared by `modules`.
2. `modules` wraps the model, or puts hooks on it, as Opacus' `GradSampleModule` and `GradSampleHooks` do. It hears of
   calls and of backward passes through `passes`, which stands on `gradkernels.watch`.
3. What arrives in a backward pass is `kept`: norms, weighted sums and rows are made of it when somebody asks.
4. `p.grad_sample` is a tensor of `rows` that are not formed. Opacus' optimizers ask it for norms and a weighted sum,
   and get them without; whoever asks for anything else gets the rows.
5. `ghost` has the loss of `grad_sample_mode="ghost"`: one backward pass, where Opacus has two. `loss_graph` says where
   it may end, so that parameters' own gradients are left out; where they are not, `unclipped` empties `.grad` of them.

Optimizers, noise, accountants, data loaders and checkpoints are Opacus' own, as they are.
"""

from gradkernels.adapters.missing import missing

try:
    import opacus as _opacus  # noqa: F401
except ImportError as error:
    raise missing("Opacus", "opacus", error) from error

from gradkernels.adapters.opacus.engine import PrivacyEngine as PrivacyEngine
from gradkernels.adapters.opacus.modules import GradientHooks as GradientHooks
from gradkernels.adapters.opacus.modules import GradientModule as GradientModule
