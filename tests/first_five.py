"""The quantities of which tests know more than their definitions: what computes them by hand, what fails for which."""

FIVE = ("gradient", "per_sample", "norms", "moments", "clipped_sum")
