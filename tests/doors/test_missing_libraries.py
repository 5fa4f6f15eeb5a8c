"""Doors whose library is not installed."""

import importlib
import sys

import pytest

from gradkernels.adapters.missing import missing

DOORS = {
    "captum": "captum", "dattri": "dattri", "jax_privacy": "jax_privacy", "laplace": "laplace",
    "lightning": "lightning",
    "opacus": "opacus", "trak": "trak", "transformers": "transformers",
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_a_library_that_is_missing_is_a_sentence(door, monkeypatch):
    for name in [one for one in sys.modules if one.startswith(f"gradkernels.adapters.{door}")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [one for one in sys.modules if one.split(".")[0] == DOORS[door]]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, DOORS[door], None)
    extra = door.replace("_", "-")
    with pytest.raises(ImportError, match=rf"adapters\.{door} needs .*: pip install 'gradkernels\[{extra}\]'"):
        importlib.import_module(f"gradkernels.adapters.{door}")


@pytest.mark.parametrize("error", [ImportError("torchvision is of another torch"), ModuleNotFoundError(name="numba")])
def test_a_library_that_is_there_and_cannot_be_imported_is_not_to_be_installed(error):
    says = str(missing("traker", "trak", error))
    assert says == f"gradkernels.adapters.trak found traker, whose import failed: {error}"
