"""What a forward pass computes: samples followed from tensor to tensor, boundaries kept for the backward pass.

1. `tape` is a torch function mode: it sees each call. `function_kinds` says which calls give only metadata or draw
   random numbers, `composite_functions` which are run open, call by call.
2. `tracker` sorts the arguments by the `tags` that earlier calls left on them: data with samples along a
   `sample_axis`, tensors made of parameters alone, and data in which samples are lost.
3. Without parameters the call is run as it is; `follow` says along which axis its output has the samples. Where there
   is none, no gradient may come back through it.
4. With parameters and data it is a `boundary`, run by one of the `boundary_rules`, which keeps its uses and listens to
   the gradient of its output (`views` finds the tensor to listen to). Constants that are as many as samples meet
   parameters before data, as a first state of zeros does: whose their rows are is one of the `guesses`.
5. `checkpointing` runs checkpointed parts without a graph, and again, followed, when their gradient is there;
   `one_draw` runs dropout with the same draw for all samples; `loss_guard` watches what the loss takes;
   `graph_search` finds parameters that no call has shown.
"""
