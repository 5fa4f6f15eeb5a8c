from gradkernels.case import Case
from gradkernels.registry import kernel, kernels
