"""Import the winner: the quantities, each computed by the fastest kernel that is proven and installed.

`gradient(problem, theta, x, y)` and its siblings find the kernel once for each combination of problem, shapes and
dtypes and keep it, so that a call costs about a microsecond more than the kernel; `gk.fastest` hands out the kernel
itself. A result is an array of the library of theta and x; for a `ModuleProblem`, what has theta's structure is a dict
of tensors by parameter name. All raise as `gradient`.

A call goes from here to `gradkernels.dispatch`, which finds the kernel, and from there to what the kernel computes:

- `of_gradients`: `gradient`, `per_sample`, `norms`, `moments`;
- `clipped`: `clipped_sum`, of dask arrays by `lazy_clipped`; `odd_gradients`: what is said where norms are not finite;
- `sums`: `weighted_sum`, `group_sums`, `outer`;
- `products`: `inner`, `gram`, `project`;
- `outputs`: `jacobian`;
- `together`: several of these from one pass;
- `rows`: the matrix of all gradients, of which any of these is asked; `flat_rows`: parameters side by side in it;
  `row_columns`: its transpose; `scipy_operator`: it as scipy's; `operands`: what it is multiplied by and chosen from;
- `compute`: what those with options share, and the function of a quantity that has none written out.
"""

from gradkernels.dispatch.fastest_kernel import fastest as fastest
from gradkernels.fastest.clipped import clipped_sum as clipped_sum
from gradkernels.fastest.of_gradients import gradient as gradient
from gradkernels.fastest.of_gradients import moments as moments
from gradkernels.fastest.of_gradients import norms as norms
from gradkernels.fastest.of_gradients import per_sample as per_sample
from gradkernels.fastest.outputs import jacobian as jacobian
from gradkernels.fastest.products import gram as gram
from gradkernels.fastest.products import inner as inner
from gradkernels.fastest.products import project as project
from gradkernels.fastest.sums import group_sums as group_sums
from gradkernels.fastest.sums import outer as outer
from gradkernels.fastest.sums import weighted_sum as weighted_sum
from gradkernels.fastest.together import together as together
