"""The real models are of transformers and peft, built from configurations: nothing is downloaded."""

import importlib.util

import pytest
import torch


def pytest_ignore_collect(collection_path):
    """Without the libraries there is nothing to test; the extra `real` has them."""
    missing = any(importlib.util.find_spec(name) is None for name in ("transformers", "peft"))
    return True if missing and collection_path.name.startswith("test_") else None


@pytest.fixture(autouse=True)
def seeded():
    """Each test draws the same numbers, whichever ran before it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
