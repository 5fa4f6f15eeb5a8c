"""What a module's samples give under torch.compile, a chunk of them at a time.

1. `available` says whether there is a compiler, and whether the case can be compiled at all.
2. `modules` (the gradient of one sample's loss under vmap) and `hooks` (what the hooks engine computes) write a
   function from tensors to the memory of a result: parameters, buffers and frozen parameters, x, y, out.
3. `gradkernels.engines.recorded.trace` runs it once on tensors without data and records the operations, whatever the
   model's Python is. What the recording depends on besides its arguments is the state of the model, so that another
   state gets another one.
4. `per_shape` compiles the recording for each shape, layout, dtype and number of threads, and keeps it.
5. At a call, `modules.in_chunks` cuts the batch into chunks of one size, so that nothing is compiled for a last one
   that is shorter, and has each write its part of the result.

Compiling takes seconds to minutes; calls after it run without Python between the operations.
"""
