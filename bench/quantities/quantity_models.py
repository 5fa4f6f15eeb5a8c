"""The models of the suite: small ones, real ones made from configurations, and two regressions."""

from __future__ import annotations

from batch_models import MODELS as OF_BATCHES
from batch_truth import Truth
from quantity_truth import ModuleTruth, RegressionTruth

import gradkernels as gk

REGRESSIONS = {"linear": gk.LinearRegression, "logistic": gk.LogisticRegression}
MODULES = ("cnn", "transformer", "bert", "gpt2", "llama", "vit", "llama_lora", "resnet", "lstm")
MODELS = ("mlp", *REGRESSIONS, *MODULES)
"""Those that are quick first: time that they leave is for the others."""

SIZES = (64, 128, 16, 512)
REGRESSION_SIZES = (10_000, 1_000_000)
"""Numbers of samples in the order in which they are measured."""


def truth_of(model):
    """Make a model and what its results are held against.

    Args:
        model: One of MODELS.
    """
    if model in REGRESSIONS:
        return RegressionTruth(REGRESSIONS[model]())
    return ModuleTruth(Truth.of(OF_BATCHES[model]().for_proof("float32", "cpu")))


def sizes_of(model, wanted):
    """Return the numbers of samples of a model in the order in which they are measured.

    Args:
        model: One of MODELS.
        wanted: What was asked for; none for all.
    """
    usual = REGRESSION_SIZES if model in REGRESSIONS else SIZES
    if not wanted:
        return usual
    apart = min(REGRESSION_SIZES)
    mine = [n for n in wanted if (n >= apart) == (model in REGRESSIONS)]
    return tuple(sorted(mine, key=lambda n: usual.index(n) if n in usual else len(usual)))
