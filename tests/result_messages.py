"""What a check of a result says of it, held against single gradients."""

from gradkernels.check.compare_arrays import Disagreement


def message(check, singles):
    """Add the gradients one after the other; return the sentence, or None where the result is right."""
    try:
        for i, one in enumerate(singles):
            check.add(i, one)
        check.finish()
    except Disagreement as fault:
        return str(fault)
    return None
