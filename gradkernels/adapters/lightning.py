"""Per-sample gradients in a Lightning Trainer: norms, noise scale and clipped steps, logged where it logs."""

from __future__ import annotations

from collections.abc import Mapping

from torch.optim import Optimizer

from gradkernels.adapters.missing import missing
from gradkernels.adapters.noisy_steps import NOISE_IN_SEVERAL, NoisySteps, require_watched
from gradkernels.adapters.training.seen_numbers import SeenNumbers, watched
from gradkernels.problems.module.structure import Module
from gradkernels.watch import Watch, watch
from gradkernels.watch.request import Quantities

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DDPStrategy
except ImportError as error:
    raise missing("lightning", "lightning", error) from error


class LightningGradientCallback(Callback):
    """Watches the samples' gradients of the steps of a LightningModule, which are the gradients of its mean loss.

        trainer = Trainer(callbacks=[LightningGradientCallback(["norms", "noise_scale"], module="model", every=50)])

    Args:
        quantities: As `gk.watch` takes them.
        module: Name of the part that `training_step` calls with the samples, as in `self.model(x)`; empty where it
            calls itself, `self(x)`.
        every: Each of how many optimizer steps is looked at.
        noisy: How each step is clipped and gets noise; None for the module's own steps.

    Attributes:
        seen: The watch of the training that runs, or ran last; None before.
    """

    def __init__(
        self,
        quantities: Quantities = ("norms", "noise_scale"),
        *,
        module: str = "",
        every: int = 1,
        noisy: NoisySteps | None = None,
    ) -> None:
        names = [quantities] if isinstance(quantities, str) else quantities
        self._wanted = dict(names) if isinstance(names, Mapping) else {name: {} for name in names}
        self._module, self._every, self._noisy = module, every, noisy
        self.seen: Watch | None = None
        self._numbers: SeenNumbers | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to watch.

        Raises:
            ValueError: A setting with which the numbers would be wrong.
        """
        _require(trainer, pl_module, self._noisy)
        model = pl_module.get_submodule(self._module)
        if self._noisy is not None:
            _require_all_inside(pl_module, model, self._module)
        self._leave()
        parts, processes = trainer.accumulate_grad_batches, trainer.world_size
        self.seen = watch(model, watched(self._wanted, parts * processes), every=self._every, scale=1 / parts)
        self._numbers = SeenNumbers(self.seen, self._wanted, processes)
        self.seen.__enter__()
        if self._noisy is not None:
            self._noisy.begin(self.seen)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """End a step of the watch, log it, and add noise to what it left in `.grad`.

        Args:
            trainer: That trains.
            pl_module: What it trains.
            optimizer: What steps next.
        """
        if self.seen is None or self._numbers is None:
            return
        self.seen.step()
        self._numbers.end_step()
        if found := self._numbers.take():
            pl_module.log_dict(found)
        if self._noisy is not None:
            require_watched(pl_module.get_submodule(self._module), optimizer)
            self._noisy.finish(
                dict(pl_module.named_parameters()), _batch_size(trainer) * trainer.accumulate_grad_batches
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the module as it was."""
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the module as it was.

        Args:
            trainer: That trained.
            pl_module: What it trained.
            exception: What was raised.
        """
        self._leave()

    def _leave(self) -> None:
        if self.seen is not None:
            self.seen.__exit__(None, None, None)


def _batch_size(trainer: Trainer) -> int:
    """Return the number of samples that a batch is expected to have."""
    size: int | None = getattr(trainer.train_dataloader, "batch_size", None)
    if size is None:
        raise ValueError("the loader has no batch_size, so that nothing is known to divide noisy sums by")
    return size


def _require(trainer: Trainer, module: LightningModule, noisy: NoisySteps | None) -> None:
    """Raise a ValueError where the numbers or the noise would not be what they are called.

    Args:
        trainer: That trains.
        module: What it trains.
        noisy: How steps are made private.
    """
    if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
        raise ValueError(
            f"LightningGradientCallback watches whole models, which {type(trainer.strategy).__name__} splits or passes "
            "on: pass strategy='ddp'"
        )
    if trainer.world_size > 1 and noisy is not None:
        raise ValueError(NOISE_IN_SEVERAL)
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise ValueError(f"precision={trainer.precision!r} scales the loss by a GradScaler: pass bf16-mixed")
    if not module.automatic_optimization:
        raise ValueError("the module calls backward() itself (automatic_optimization=False): use gk.watch there")
    if noisy is not None and trainer.gradient_clip_val:
        raise ValueError(
            f"gradient_clip_val={trainer.gradient_clip_val} would cut the noisy sum of clipped gradients once more: "
            "leave it out"
        )


def _require_all_inside(module: LightningModule, model: Module, name: str) -> None:
    """Raise a ValueError where a trained parameter is outside of what is watched, so that it would not be clipped.

    Args:
        module: What is trained.
        model: The part of it that is watched.
        name: Its name.
    """
    inside = {id(one) for one in model.parameters()}
    outside = [key for key, one in module.named_parameters() if one.requires_grad and id(one) not in inside]
    if outside:
        raise ValueError(
            f"{', '.join(outside[:4])} would get noise without being clipped: module={name!r} does not hold it; name a "
            "module that holds all trained parameters and is called with the samples, or freeze it"
        )
