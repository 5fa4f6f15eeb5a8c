"""What the hooks engine does, recorded once as a straight line of operations: the ways called `torch.recorded`.

1. `functions` writes each quantity as a function of tensors: parameters, what is not trained, x, y, memory;
   `product_functions` those of products and weighted sums. `uses` says how layers are recorded where the hooks look at
   values or measure, how all others are, and makes one operation of what is left to the hooks' own code.
2. `recorder` runs such a function on a few samples and notes every operation, those of the backward pass among them;
   what Python finds besides, such as a tensor that is an attribute, becomes an argument, and it may look at
   `known_memory` alone. `trace` does it on tensors without data, for torch.compile, and has what both need: buffers and
   frozen parameters as arguments.
3. `any_number` merges two recordings, with different numbers of samples, to one that holds for any number.
4. `executors` has TorchScript's interpreter run it: neither Python nor autograd comes between two operations; on a GPU
   that waits for them all the same, `cuda_graphs` replays them.
5. `recordings` keeps what was recorded, by the state of the model, what of it is not trained and the kind of
   `arguments`, a bounded number of them; `quantities`, `products` and `clipped_sums` call them, chunk by chunk.

`mending` puts right what is in doubt when a recording has run. What the data decide cannot be recorded: an `Unfit` of
the hooks engine says so, and the caller takes another kernel.
"""
