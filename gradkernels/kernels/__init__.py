"""The catalogue: one module for each way of computing per-sample gradients and what follows from them.

A module declares one function for each quantity:

    @declare("numpy.broadcast.per_sample", problems=Regression, out=True)
    def per_sample(problem): ...

The key says library, way and quantity; the other arguments say for which problems, what the kernel refuses with which
reason, and what it can do. The function builds: it gets a problem, and options in brackets of the key, and returns
`compute(theta, x, y)`, to be called with batches. Set-up is in the former, and only the latter is timed.

A new module here is found by the registry; nothing else needs an edit. Modules load with the registry, so they import
their array library inside the builder. What several ways share is in `gradkernels.engines`.
"""
