"""Array libraries: how to get arrays in and out, wait for them and compile functions of them.

A library is a row of functions, so that nothing asks for its name:

- `array_library`: what such a row has, `ArrayLibrary`; what is left out is as numpy has it;
- `numpy_arrays`, `torch_arrays` and `jax_arrays`: a row each, `NUMPY`, `TORCH` and `JAX`;
- `libraries`: `BACKENDS`, every library that a kernel can be of; several take the arrays of another. `backend_of` tells
  whose an array is.

Arrays of a caller come here first: whose they are decides what converts them, and which kernels need no conversion.
Nothing is imported before it is used.
"""

from gradkernels.backend.array_library import Array as Array
from gradkernels.backend.array_library import ArrayLibrary as ArrayLibrary
from gradkernels.backend.libraries import BACKENDS as BACKENDS
from gradkernels.backend.libraries import LIBRARIES as LIBRARIES
from gradkernels.backend.libraries import PACKAGES as PACKAGES
from gradkernels.backend.libraries import Backend as Backend
from gradkernels.backend.libraries import arrays_by_namespace as arrays_by_namespace
from gradkernels.backend.libraries import arrays_of as arrays_of
from gradkernels.backend.libraries import backend_of as backend_of
from gradkernels.backend.numpy_arrays import NUMPY as NUMPY
from gradkernels.coordinates import FLOATS as FLOATS
