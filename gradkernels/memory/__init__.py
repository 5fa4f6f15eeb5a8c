"""Memory for results and inputs: kept between calls, in huge pages where they can be had, fit for autograd.

Fresh memory is costly: the system clears each page when it is first written to, which takes longer than most kernels
take to compute what they write. So a result is written to memory that an earlier one has left:

- `results`: blocks of memory that are handed out again once nothing refers to the result in them, no view either;
  `RESULTS` holds those of this process, and `gk.release()` gives them back to the system;
- `tensors`: tensors in such memory or in the memory of numpy arrays, and what `torch.inference_mode` forbids;
- `overlap`: whether arrays share memory;
- `shared_passes`: what several computations of one scope have in common;
- `kept_arrays`: arrays that take long to make, such as random matrices, kept while memory is free;
- `installed`, `free`: how much memory this process may use at most, and at the moment.

On a GPU torch's allocator keeps memory in much the same way, and nothing is done here.
"""

from gradkernels.memory.results import RESULTS as RESULTS
from gradkernels.memory.results import empty_numpy as empty_numpy
from gradkernels.memory.results import release as release
from gradkernels.memory.tensors import empty_torch as empty_torch
from gradkernels.memory.tensors import from_numpy as from_numpy
from gradkernels.memory.tensors import is_out_of_memory as is_out_of_memory
from gradkernels.memory.tensors import ordinary as ordinary
from gradkernels.memory.tensors import sealed as sealed
from gradkernels.memory.tensors import store as store
