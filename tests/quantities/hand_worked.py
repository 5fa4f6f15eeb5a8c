"""A regression whose three gradients are worked out by hand, and how results are compared."""

import numpy as np
import torch

import gradkernels as gk

# Residuals -1, 1, 2 of y = theta_0 + theta_1 x at (0, 0), hence gradients 2 r (1, x): (2, 0), (-2, -2), (-4, -8).
P, THETA = gk.LinearRegression(), np.zeros(2)
X, Y = np.array([0.0, 1.0, 2.0]), np.array([-1.0, 1.0, 2.0])
ROWS = np.array([[2.0, 0.0], [-2.0, -2.0], [-4.0, -8.0]])


def wide(rows):
    return torch.cat([part.flatten(1) for part in rows.values()], 1)


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)
