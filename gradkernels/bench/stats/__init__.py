"""The arithmetic of a verdict. It imports nothing of the harness and knows no kernels: numbers in, numbers out.

1. `estimates` makes one estimate of the ratios of several passes: a trimmed mean of logarithms, with an interval, a
   p-value, and the correction for looking at many of them at once;
2. `verdict` says what an estimate means against a threshold: slower, faster, same or undecided, and how many passes it
   would take to know;
3. `conventions` has the two numbers that are agreed on: what counts as a change, and the fewest passes;
4. `scaling` fits how a cost grows with the number of samples: the exponent k of seconds = a + b n^k.

A pass is one independent start of the measuring processes, and the only unit that is counted: rounds within a pass
share its luck and are no repetitions. Every formula names its source in the docstring.
"""
