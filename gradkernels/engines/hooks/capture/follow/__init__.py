"""Where the samples are in the output of a torch function, from where they are in its arguments.

Nothing here looks at what a tensor holds but the indices by which entries are picked: a rule says what a function does
to axes, for the functions that are listed; samples are never recognised by their values. What has no rule, or takes
samples together, gives a tensor through which no gradient may come back (`gradkernels.engines.hooks.capture.tape`).
"""
