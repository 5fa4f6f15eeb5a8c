"""The real models are of transformers and peft, built from configurations: nothing is downloaded."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"


def with_torchvision():
    """Let torchvision be imported, as transformers does: one built for another torch lacks its operators' binary.

    Returns:
        What keeps their definitions alive.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        spec = importlib.util.find_spec("torchvision")
        text = Path(spec.submodule_search_locations[0], "_meta_registrations.py").read_text()
        library = torch.library.Library("torchvision", "DEF")
        for name in set(re.findall(r'register_meta\("(\w+)"', text)) | set(re.findall(r"torchvision::(\w+)", text)):
            library.define(f"{name}(Tensor a) -> Tensor")
        return library
    except ImportError:
        return None


TORCHVISION = with_torchvision()


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
