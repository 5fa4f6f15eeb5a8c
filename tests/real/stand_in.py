"""Stand-ins for the operators of a torchvision that was built for another torch: others import it without need."""

import importlib.util
import re
from pathlib import Path

import torch


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
