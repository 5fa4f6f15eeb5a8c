"""Losses of a linear predictor, theta_0 + x . theta, and what they ask of their data.

`regression` holds what all of them share: shapes, penalty, `weighted` targets, and the closed form by the loss's
slope, the derivative with respect to the predictor. `scalar` is for one predictor per sample: a new regression is a
class with two methods, its loss and its slope. `families` defines those that come with the package, `softmax` the one
with a predictor for each class; `settings` refuses numbers and truth values that are none.

What a caller passes goes through three modules, in this order:

1. `conversion` makes it plain arrays: no memory maps or subclasses, targets in the dtype of x;
2. `target_guard` looks at the smallest and the largest target, at every call;
3. `targets` finds the first target that a loss is not defined for, and says why.
"""
