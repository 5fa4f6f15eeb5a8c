"""What the callbacks of training libraries have in common: from what a watch has seen to the numbers of a log.

A callback opens `gk.watch` around the model that a Trainer trains, ends a step of it where the Trainer is about to let
its optimizer step, and hands on what was seen.

- `seen_numbers` names what a watch has seen as a log does.
- `other_processes` joins what several processes have seen of a step, so that each logs the numbers of all samples:
  lengths are gathered, mean gradients and squares are added up by `torch.distributed`.
- `trainer_scale` knows what the Trainer of transformers multiplies a loss with, which a watch has to divide by.

Noise for private steps is in `gradkernels.adapters.noisy_steps`, which a user imports.
"""
