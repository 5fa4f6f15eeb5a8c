"""A mixin that gives linear estimators of scikit-learn the gradient of each training sample.

1. `mixin` has `PerSampleGradients`, whose `fit` computes the rows, and whose method computes those of other samples.
2. `samples` reads features, targets and weights as the estimator's own `fit` reads them.
3. `regressions` knows the losses that are a regression of `gradkernels.problems`.
4. `slopes` knows those that are none: derivatives by the samples' scores.
"""

from gradkernels.adapters.sklearn.mixin import PerSampleGradients as PerSampleGradients
