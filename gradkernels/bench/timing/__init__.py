"""What happens inside the measuring process. It knows no files, passes or commands.

One case, from inputs to measurements:

1. `shared_inputs` lays the data down once for all libraries, read-only, afresh at random places in every block;
2. `preparation` builds a kernel, calls it a first time and proves it; `prepared_kernel` is what comes out of it;
3. `case_timing` has the kernels take turns with the `control` and with what only moves the bytes (`bandwidth`, by the
   fastest of `memory_movers`, as many bytes as `traffic` says that no kernel can do without);
4. `slices` calibrates how many calls a slice takes and runs slices in blocks of random balanced order;
5. `background` looks whether a kernel left threads or processes at work, which would spoil the next one's time;
6. every kernel is proven a second time, on other data.

`peak_memory` measures a call's memory, in a pass of its own.
"""
