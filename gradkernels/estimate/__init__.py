"""The stochastic gradient as an estimator of the true one.

`study` does what the coursework behind this package asked: at some parameter points it computes the true gradient in
several ways, which is an identity and must agree to rounding, and then asks how well mini-batches estimate it, which is
a statistical claim and comes with intervals.

`minibatch` draws many mini-batches of one size and returns bias, standard error and cosine of their mean gradients,
beside what theory says: sigma / sqrt(B) * sqrt((n - B) / (n - 1)).

`gradkernels estimate` prints and draws it (`gradkernels.bench.report`).
"""
