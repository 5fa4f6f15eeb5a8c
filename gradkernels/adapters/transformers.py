"""Per-sample gradients in a transformers Trainer: norms, noise scale and clipped steps, logged where it logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gradkernels.adapters.missing import missing
from gradkernels.adapters.noisy_steps import NOISE_IN_SEVERAL, NoisySteps, require_watched
from gradkernels.adapters.training.seen_numbers import SeenNumbers, watched
from gradkernels.watch import Watch, watch
from gradkernels.watch.request import Quantities

try:
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    from gradkernels.adapters.training.trainer_scale import TrainerScale
except ImportError as error:
    raise missing("transformers", "transformers", error) from error


class GradientCallback(TrainerCallback):
    """Watches the samples' gradients of a Trainer's own steps.

        trainer = Trainer(..., callbacks=[GradientCallback(["norms", "noise_scale"], every=50)])

    A sample's gradient is n times its share of the gradient of its batch's mean loss: that of its own loss, unless
    samples have different numbers of targets.

    Args:
        quantities: As `gk.watch` takes them.
        every: Each of how many optimizer steps is looked at.
        noisy: How each step is clipped and gets noise; None for the Trainer's own steps.

    Attributes:
        seen: The watch of the training that runs, or ran last; None before.
    """

    def __init__(
        self, quantities: Quantities = ("norms", "noise_scale"), *, every: int = 1, noisy: NoisySteps | None = None
    ) -> None:
        names = [quantities] if isinstance(quantities, str) else quantities
        self._wanted = dict(names) if isinstance(names, Mapping) else {name: {} for name in names}
        self._every, self._noisy = every, noisy
        self.seen: Watch | None = None
        self._numbers: SeenNumbers | None = None
        self._scale: TrainerScale | None = None

    def add_to(self, trainer: Trainer) -> None:
        """Take part in a Trainer, before its reporters (TensorBoard and others), so that they get the numbers too."""
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **at: Any) -> None:
        """Begin to watch.

        Args:
            args: The Trainer's.
            state: Where the training is.
            control: What is to happen next.
            at: The model, and what it is trained with.

        Raises:
            ValueError: A setting with which the numbers would be wrong.
        """
        require_settings(args, self._noisy)
        self.leave()
        parts, processes = args.gradient_accumulation_steps, args.world_size
        times = processes if args.average_tokens_across_devices else 1
        self._scale = TrainerScale(at["model"], parts, at.get("train_dataloader"), times)
        wanted = watched(self._wanted, parts * processes)
        self.seen = watch(at["model"], wanted, every=self._every, scale=self._scale.now)
        self._numbers = SeenNumbers(self.seen, self._wanted, processes)
        self.seen.__enter__()
        if self._noisy is not None:
            self._noisy.begin(self.seen)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **at: Any) -> None:
        """Take note which step it is.

        Args:
            args: The Trainer's.
            state: Where the training is.
            control: What is to happen next.
            at: The model, and what it is trained with.
        """
        if self._scale is not None:
            self._scale.begin_step(state.global_step)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **at: Any
    ) -> None:
        """End a step of the watch, and add noise to what it left in `.grad`.

        Args:
            args: The Trainer's.
            state: Where the training is.
            control: What is to happen next.
            at: The model, and what it is trained with.
        """
        if self.seen is None:
            return
        self.seen.step()
        if self._numbers is not None:
            self._numbers.end_step()
        if self._noisy is not None:
            require_watched(at["model"], at["optimizer"])
            self._noisy.finish(
                dict(at["model"].named_parameters()), args.train_batch_size * args.gradient_accumulation_steps
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **at: Any,
    ) -> None:
        """Add the numbers of the last step that was looked at to what the Trainer logs of its training.

        Args:
            args: The Trainer's.
            state: Where the training is.
            control: What is to happen next.
            logs: What is logged, by name.
            at: The model, and what it is trained with.
        """
        if self._numbers is None or logs is None or "loss" not in logs:
            return
        found = self._numbers.take()
        logs.update(found)
        state.log_history[-1].update(found)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **at: Any) -> None:
        """Leave the model as it was.

        Args:
            args: The Trainer's.
            state: Where the training is.
            control: What is to happen next.
            at: The model, and what it is trained with.
        """
        self.leave()

    def leave(self) -> None:
        """Leave the model as it was, after a training that an error has ended, of which a Trainer tells nobody."""
        if self.seen is not None:
            self.seen.__exit__(None, None, None)
        if self._scale is not None:
            self._scale.leave()


def require_settings(args: TrainingArguments, noisy: NoisySteps | None) -> None:
    """Raise a ValueError where the numbers or the noise would not be what they are called.

    Args:
        args: The Trainer's.
        noisy: How steps are made private; None for the Trainer's own.
    """
    if args.n_gpu > 1:
        raise ValueError("GradientCallback watches one device in each process: start the training by torchrun")
    if args.world_size > 1 and (args.fsdp or args.deepspeed):
        raise ValueError("GradientCallback watches whole models: leave out fsdp and deepspeed, which split them")
    if args.world_size > 1 and noisy is not None:
        raise ValueError(NOISE_IN_SEVERAL)
    if args.torch_compile:
        raise ValueError("torch_compile=True would compile the watch with the model: leave it out")
    if args.fp16:
        raise ValueError("fp16=True scales the loss by a GradScaler that callbacks are not told of: pass bf16=True")
    if noisy is not None and args.max_grad_norm:
        raise ValueError(
            f"max_grad_norm={args.max_grad_norm} would cut the sum of the clipped gradients once more, before its "
            "noise: pass max_grad_norm=0 to TrainingArguments"
        )
