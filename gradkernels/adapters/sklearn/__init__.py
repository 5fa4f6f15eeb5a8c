"""A mixin that gives linear estimators of scikit-learn the gradient of each training sample.

`class Model(PerSampleGradients, LogisticRegression): pass` is the changed line.

1. `mixin` has `PerSampleGradients`, whose `fit` computes the rows, and whose method computes those of other samples.
2. `samples` reads features, targets and weights as the estimator's own `fit` reads them: classes are weighed as they
   were when it was fitted, and columns must be those that it was fitted to.
3. `regressions` knows the losses that are a regression of `gradkernels.problems`.
4. `slopes` knows those that are none: derivatives by the samples' scores.

Nothing of scikit-learn is loaded before an estimator is fitted.
"""

from gradkernels.adapters.sklearn.mixin import PerSampleGradients as PerSampleGradients
