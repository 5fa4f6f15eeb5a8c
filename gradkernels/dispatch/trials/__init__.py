"""Kernels that take turns in the calls of a running program, until it is known which is fastest there.

1. `select` names rivals of its choice: kernels whose set-up pays only after many calls, such as a recording, and, where
   the number of samples is far from every size that was measured, those that were about as fast at the nearest.
2. `trials` wait until their set-up can pay.
3. From then on the choice and its rivals compute call after call by turns, in a `trial`; each is timed, after a first
   call that sets it up, and the fastest computes from there on.

Every kernel is proven before its first result is handed out, as always: a trial decides about time alone. There is one
for each power of two of samples, and none under `torch.use_deterministic_algorithms`, since which kernel computes, and
so the last bit of a result, would depend on the clock.
"""
