"""What the hooks engine does, recorded once as a straight line of operations: the ways called `torch.recorded`.

1. `functions` writes each quantity as a function of tensors: parameters, what is not trained, x, y, memory. `uses` says
   how layers are recorded where the hooks look at values or measure, `plain_uses` how all others are; `whole` makes
   one operation of what is left to the hooks' own code.
2. `trace` runs such a function on tensors without data, and keeps the operations, those of the backward pass among
   them. `tidy` strips what is not needed, and makes arguments of tensors that the model found somewhere.
3. `any_number` merges two traces, with different numbers of samples, to one that holds for any number.
4. `executors` has TorchScript's interpreter run it: neither Python nor autograd comes between two operations.
5. `recordings` keeps what was recorded, by the state of the model and the kind of `arguments`, a bounded number of
   them; `quantities` calls them, chunk by chunk.

What the data decide cannot be recorded: an `Unfit` of the hooks engine says so, and the caller takes another kernel.
"""
