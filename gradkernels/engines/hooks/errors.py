"""What is raised where a model cannot be differentiated by hooks."""

from __future__ import annotations


class Unfit(ValueError):
    """Why a model cannot be differentiated by hooks, as a sentence."""
