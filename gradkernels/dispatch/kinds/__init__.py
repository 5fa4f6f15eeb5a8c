"""What a call of a module's quantity need not find out again, since a call like it did.

1. `seen_inputs` looks at what is given: inputs of shapes that it has seen need no validation, and what is known of
   their kind (`KernelHistory`: which kernels are wrong, did not fit, are tried) is at hand.
2. `settled_calls` keeps, for a kind and about as many samples, the kernel that computed last and was proven. As long as
   nothing is learnt of any kernel it computes the next call at once, without a choice among all.

Neither decides whether a result is audited, nor whether the model is what it was: both are asked at every call. A
kernel that raises is no longer settled, and the call begins anew with the choice. What is kept here dies with the
problem, so that it may refer to the model; what outlives it, the histories, may not.
"""
