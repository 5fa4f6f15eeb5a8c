"""How a kernel is proven, before it is timed and ever after.

`prove` draws or takes the data of a case, computes what must come out, runs the kernel and compares:

1. `reference` gives every quantity by its definition from the `true_gradients` of each sample, float64, and what
   follows from these (`known_gradients`); `complex_step` finds them for regressions, `modules.reference` for
   modules and `function_gradients` for JAX functions, none by what a kernel is made of; `rounding` tells what a
   working precision cannot know of the last two;
2. `structure` compares dtypes, shapes and the tree of arrays of a result with what the quantity promises;
3. `compare_arrays` compares values entry by entry, within the rounding that the dtype allows;
4. `call_options` draws what a quantity takes besides theta, x and y;
5. `identities` holds quantities against each other, as the mean of the per-sample gradients against the gradient;
6. `side_effects` sees that inputs stay as they are, that no result shares memory with another, and that a result
   depends on the data and not on what was computed before.

`on_request` proves what a person asks for, any function too. `modules` is the proof on a caller's own data, for models
of which nothing is known but that they compute.
A kernel that fails raises `Disagreement`, which says where and by how much.
"""

from gradkernels.check.compare_arrays import Disagreement, Unprovable
from gradkernels.check.on_request import check
from gradkernels.check.prove import Proof, endure, prove

__all__ = ["Disagreement", "Proof", "Unprovable", "check", "endure", "prove"]
