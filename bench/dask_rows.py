"""Lazy rows of any size, and the gradient of them: by `gk.gradient`, and as others would compute it with dask."""

from __future__ import annotations

import importlib

import dask
import dask.array as da
import numpy as np

import gradkernels as gk

FEATURES, BLOCK_BYTES = 30, 2**25
PROBLEM, THETA = gk.LinearRegression(), np.linspace(-1, 1, FEATURES + 1)


def made(shape, block_id):
    """Return a block of numbers, the same for the same block."""
    return np.random.Generator(np.random.SFC64(block_id[0])).random(shape)


def rows_of(gigabytes, block_bytes=BLOCK_BYTES):
    """Return lazy x and y of so many bytes, in blocks."""
    rows = max(1, block_bytes // (8 * FEATURES))
    blocks = max(1, round(gigabytes * 1e9 / (8 * FEATURES) / rows))
    chunks = (rows,) * blocks

    def array(*more):
        shape = (rows, *more)
        return da.map_blocks(made, shape, chunks=(chunks, *((one,) for one in more)), dtype=float,
                             meta=np.empty((0,) * len(shape)))  # fmt: skip

    return array(FEATURES), array()


def touched(x, y):
    return np.zeros((1, 1))


def reading(x, y):
    """Return what makes all blocks and does nothing with them."""
    return da.blockwise(touched, "ij", x, "ij", y, "i", adjust_chunks={"i": 1, "j": 1}, dtype=float).sum()


def by_hand(x, y):
    """Return the gradient as one would write it with dask alone: numpy of each block, and a sum."""

    def one(x, y):
        slopes = 2 * (x @ THETA[1:] + THETA[0] - y)
        return np.concatenate([[slopes.sum()], slopes @ x])[None]

    axes = {"i": 1, "j": FEATURES + 1}
    parts = da.blockwise(one, "ij", x, "ij", y, "i", adjust_chunks=axes, dtype=float, meta=np.empty((0, 0)))
    return parts.sum(0) / x.shape[0]


def by_dask_glm(x, y):
    """Return the gradient of dask-glm's normal family, without an intercept."""
    families = importlib.import_module("dask_glm.families")
    eta = x @ THETA[1:]
    return families.Normal.gradient(eta, x, y) / x.shape[0]


def by_partial_fit(x, y):
    """Return a pass of scikit-learn's SGDRegressor over the blocks, one by one in this process."""
    model = importlib.import_module("sklearn.linear_model").SGDRegressor()

    def compute():
        for one, two in zip(x.blocks, y.blocks, strict=True):
            model.partial_fit(*dask.compute(one, two, scheduler="synchronous"))

    return compute


def by_dask_ml(x, y):
    """Return a pass of dask-ml's Incremental around the same."""
    regressor = importlib.import_module("sklearn.linear_model").SGDRegressor()
    model = importlib.import_module("dask_ml.wrappers").Incremental(regressor, shuffle_blocks=False)
    return lambda: model.fit(x, y)


PEERS = {
    "map_blocks of numpy": by_hand,
    "dask-glm": by_dask_glm,
    "partial_fit of scikit-learn": by_partial_fit,
    "dask-ml Incremental": by_dask_ml,
}


def gradient(x, y):
    return gk.gradient(PROBLEM, THETA, x, y)
