"""`gradkernels.adapters.opacus`: the changed line gives what Opacus gives, and what it refuses too."""

import copy
import gc
import io
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

opacus = pytest.importorskip("opacus")

from opacus.utils.adaptive_clipping.adaptive_clipping_utils import DPTensorFastGradientAdaptiveClipping  # noqa: E402
from opacus.utils.batch_memory_manager import BatchMemoryManager  # noqa: E402
from opacus.validators.errors import UnsupportedModuleError  # noqa: E402

import gradkernels as gk  # noqa: E402
from gradkernels.adapters.opacus import GradientHooks, GradientModule, PrivacyEngine  # noqa: E402
from gradkernels.adapters.opacus.kept import ArrivedGradients  # noqa: E402
from gradkernels.adapters.opacus.rows import UnformedRows  # noqa: E402
from gradkernels.engines.hooks.accumulate.accumulators import RowSums  # noqa: E402
from gradkernels.engines.hooks.following import Following  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    "ignore:Secure RNG turned off", "ignore:Full backward hook is firing", "ignore:Optimal order is the"
)
N = 24
ADAPTIVE = {
    "target_unclipped_quantile": 0.5, "clipbound_learning_rate": 0.2, "max_clipbound": 10.0, "min_clipbound": 0.01,
    "unclipped_num_std": 1.0,
}  # fmt: skip


def small() -> nn.Module:
    return nn.Sequential(nn.Conv1d(1, 3, 3), nn.GroupNorm(1, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 4))


@cache
def data() -> TensorDataset:
    drawn = torch.Generator().manual_seed(5)
    return TensorDataset(torch.randn(N, 1, 8, generator=drawn), torch.randint(4, (N,), generator=drawn))


def private(engine: Any, model: nn.Module, *, batch: int = 6, seed: int = 3, **options: Any) -> Any:
    """Return what make_private gives, the criterion always among it, with noise that `seed` says."""
    options = {"noise_multiplier": 0.7, "max_grad_norm": 0.4, "grad_sample_mode": "hooks", **options}
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    loader, criterion = DataLoader(data(), batch_size=batch), nn.CrossEntropyLoss()
    noise = torch.Generator().manual_seed(seed)
    made = engine.make_private(
        module=model, optimizer=optimizer, criterion=criterion, data_loader=loader, noise_generator=noise, **options
    )
    return made if len(made) == 4 else (*made[:2], criterion, made[2])


def trained(engine: Any, steps: int = 10, make: Any = small, **options: Any) -> tuple[list[torch.Tensor], Any]:
    """Return the parameters after some steps, and the optimizer."""
    torch.manual_seed(1)
    model = make()
    followed, optimizer, criterion, loader = private(engine, model, **options)
    followed = followed if options.get("wrap_model", True) else model
    done = 0
    while done < steps:
        for x, y in loader:
            optimizer.zero_grad()
            criterion(followed(x), y).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
    return [one.detach().clone() for one in model.parameters()], optimizer


def rows_of(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Return each parameter's rows, by a backward pass of each sample alone through a plain copy of the model."""
    model = copy.deepcopy(model)
    rows = [
        torch.autograd.grad(nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), [*model.parameters()])
        for i in range(len(x))
    ]
    return [torch.stack(of_one) for of_one in zip(*rows, strict=True)]


def apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(found, expected, strict=True))


KINDS = {
    "flat": {},
    "unwrapped": {"wrap_model": False},
    "fixed batches": {"poisson_sampling": False},
    "per layer": {"clipping": "per_layer", "max_grad_norm": [0.1, 0.2, 0.3, 0.1, 0.2, 0.3]},
    "adaptive": {"clipping": "adaptive", **ADAPTIVE},
    "ghost": {"grad_sample_mode": "ghost"},
    "ghost unwrapped": {"grad_sample_mode": "ghost", "wrap_model": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_opacus_own_hooks(kind, long):
    steps = 50 if long else 5
    theirs = {**KINDS[kind], "grad_sample_mode": "hooks"}
    expected, there = trained(opacus.PrivacyEngine(), steps, **theirs)
    found, here = trained(PrivacyEngine(), steps, **KINDS[kind])
    assert apart(found, expected) < 1e-6
    assert float(here.max_grad_norm) == pytest.approx(float(there.max_grad_norm), rel=1e-6)


@pytest.mark.parametrize("clipping", ["flat", "per layer", "adaptive"])
@pytest.mark.parametrize("batches", [1, 2])
def test_optimizers_are_opacus_own_and_form_no_rows(clipping, batches, monkeypatch):
    monkeypatch.setattr(ArrivedGradients, "rows", None)
    options = {**KINDS[clipping], "poisson_sampling": False}
    model, optimizer, criterion, _ = private(PrivacyEngine(), small(), **options)
    assert type(optimizer).__module__.startswith("opacus.optimizers")
    x, y = data().tensors
    for _ in range(batches):
        criterion(model(x), y).backward()
    optimizer.step()


@pytest.mark.parametrize("batches", [1, 2])
def test_a_step_of_flat_clipping_goes_through_the_layers_twice(batches, monkeypatch):
    model, optimizer, criterion, _ = private(PrivacyEngine(), small(), poisson_sampling=False)
    asked: list[int] = []
    monkeypatch.setattr(RowSums, "finish", lambda self, finish=RowSums.finish: (asked.append(1), finish(self))[1])
    for _ in range(batches):
        criterion(model(data().tensors[0]), data().tensors[1]).backward()
    optimizer.step()
    assert len(asked) == 2 * batches  # once for the first parameter, once for all others, in each backward pass


def test_weights_that_have_been_changed_are_others():
    own, (x, y) = small(), data().tensors
    nn.functional.cross_entropy(GradientModule(own)(x), y).backward()
    (first, *_), weights = own.parameters(), torch.ones(N)
    whole = torch.einsum("i,i...", weights, first.grad_sample)
    weights[N // 2 :] = 0
    halved = torch.einsum("i,i...", weights, first.grad_sample)
    expected = rows_of(own, x, y)[0]
    torch.testing.assert_close(whole, expected.sum(0))
    torch.testing.assert_close(halved, expected[: N // 2].sum(0))


def test_rows_are_those_of_single_samples():
    own, (x, y) = small(), data().tensors
    model = GradientModule(own)
    nn.functional.cross_entropy(model(x), y).backward()
    for one, expected in zip(own.parameters(), rows_of(own, x, y), strict=True):
        rows = one.grad_sample
        assert (len(rows), rows.shape, rows.dtype) == (N, expected.shape, torch.float32)
        torch.testing.assert_close(rows.reshape(N, -1).norm(2, dim=-1), expected.flatten(1).norm(dim=1))
        weights = torch.linspace(0, 1, N)
        weighted = torch.einsum("i,i...", weights, rows)
        assert type(rows) is UnformedRows
        assert not rows.is_formed
        torch.testing.assert_close(weighted, torch.einsum("i,i...", weights, expected))
        torch.testing.assert_close(rows * 1, expected)
        rows.view(N, -1).mul_(2)  # is seen by all that comes after it
        torch.testing.assert_close(rows.reshape(N, -1).norm(2, dim=-1), 2 * expected.flatten(1).norm(dim=1))
        torch.testing.assert_close(torch.einsum("i,i...", weights, rows), 2 * weighted)


def test_several_backward_passes_make_a_list():
    own, (x, y) = small(), data().tensors
    model = GradientModule(own)
    for part in (slice(0, 10), slice(10, N)):
        nn.functional.cross_entropy(model(x[part]), y[part]).backward()
    optimizer = opacus.optimizers.DPOptimizer(
        torch.optim.SGD(own.parameters(), 0.1), noise_multiplier=0.0, max_grad_norm=0.3, expected_batch_size=12
    )
    assert optimizer.accumulated_iterations == 2
    expected = rows_of(own, x, y)
    optimizer.step()
    lengths = torch.cat([one.reshape(len(one), -1) for one in expected], 1).norm(dim=1)
    weights = (0.3 / (lengths + 1e-6)).clamp(max=1)
    for one, rows in zip(own.parameters(), expected, strict=True):
        torch.testing.assert_close(one.summed_grad, torch.einsum("i,i...", weights, rows))
        assert [len(part) for part in one.grad_sample] == [10, 14]
        assert not any(part.is_formed for part in one.grad_sample)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_passes_with_a_known_graph_are_not_followed_and_clip_as_the_first(mode, monkeypatch):
    followed = []
    begin = Following.running
    monkeypatch.setattr(Following, "running", lambda *given: (followed.append(1), begin(*given))[1])
    x, y = data()[:6]
    parameters = []
    for engine in (PrivacyEngine(), opacus.PrivacyEngine()):
        torch.manual_seed(1)
        own = small().double()
        model, optimizer, criterion, _ = private(
            engine, own, noise_multiplier=0.0, grad_sample_mode=mode, poisson_sampling=False
        )
        for _ in range(7):
            optimizer.zero_grad()
            criterion(model(x.double()), y).backward()
            optimizer.step()
        parameters.append([*own.parameters()])
    assert apart(*parameters) < 1e-12
    assert len(followed) == 1


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_virtual_steps_are_those_of_opacus(mode):
    def after(engine: Any, mode: str) -> list[torch.Tensor]:
        torch.manual_seed(2)
        own = small()
        model, optimizer, criterion, loader = private(engine, own, batch=8, grad_sample_mode=mode)
        with BatchMemoryManager(data_loader=loader, max_physical_batch_size=3, optimizer=optimizer) as parts:
            for x, y in parts:
                optimizer.zero_grad()
                criterion(model(x), y).backward()
                optimizer.step()
        return [one.detach() for one in own.parameters()]

    assert apart(after(PrivacyEngine(), mode), after(opacus.PrivacyEngine(), "hooks")) < 1e-6


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_batches_without_samples_and_with_one(mode):
    own, (x, y) = small(), data().tensors
    model, optimizer, criterion, _ = private(PrivacyEngine(), own, grad_sample_mode=mode, noise_multiplier=0.0)
    before = [one.detach().clone() for one in own.parameters()]
    criterion(model(x[:0]), y[:0]).backward()
    optimizer.step()
    assert apart([*own.parameters()], before) == 0
    optimizer.zero_grad()
    expected = rows_of(own, x[:1], y[:1])
    criterion(model(x[:1]), y[:1]).backward()
    optimizer.step()
    weight = min(1.0, 0.4 / (float(torch.cat([one.flatten() for one in expected]).norm()) + 1e-6))
    for one, rows in zip(own.parameters(), expected, strict=True):
        torch.testing.assert_close(one.summed_grad, weight * rows[0])


def test_the_gradient_of_one_sample_is_not_what_is_added_to_grad_later():
    own, (x, y) = small(), data().tensors
    model, expected = GradientModule(own), rows_of(own, *data().tensors)
    for i in range(2):
        nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
    for one, rows in zip(own.parameters(), expected, strict=True):
        torch.testing.assert_close(torch.cat([part + 0 for part in one.grad_sample]), rows[:2])
    own = copy.deepcopy(own)
    model, _, criterion, _ = private(PrivacyEngine(), own, grad_sample_mode="ghost", max_grad_norm=100.0)
    criterion(model(x[:1]), y[:1]).backward()
    for one, rows in zip(own.parameters(), expected, strict=True):
        torch.testing.assert_close(one.grad, rows[0])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(len(x), 1, 8) * torch.ones(1, 3, 1)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(2, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cells(x.view(len(x), 4, 2))[0][:, -1])


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(8, 8), nn.Linear(8, 8, bias=False), nn.Linear(8, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(torch.tanh(self.first(x.flatten(1)))))


class Raw(nn.Module):
    """Parameters of no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.tensor(0.7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * (x.flatten(1) @ self.weight.T)


def sums_of(engine: Any, own: nn.Module, mode: str) -> list[torch.Tensor]:
    """Return the clipped sums of one batch."""
    (x, y), (model, optimizer, criterion, _) = data().tensors, private(engine, own, grad_sample_mode=mode)
    criterion(model(x), y).backward()
    optimizer.step()
    return [one.summed_grad for one in own.parameters()]


@pytest.mark.parametrize("make", [Attention, Recurrent, Tied])
def test_opacus_refuses_these(make):
    with pytest.raises((UnsupportedModuleError, NotImplementedError)):
        sums_of(opacus.PrivacyEngine(), make(), "ghost")


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("make", [Attention, Recurrent, Tied, Raw])
def test_models_that_opacus_refuses_are_trained(make, mode):
    torch.manual_seed(3)
    own = make()
    expected = rows_of(own, *data().tensors)
    lengths = torch.cat([one.reshape(len(one), -1) for one in expected], 1).norm(dim=1)
    weights = (0.4 / (lengths + 1e-6)).clamp(max=1)
    assert (weights < 1).any()
    for found, rows in zip(sums_of(PrivacyEngine(), own, mode), expected, strict=True):
        torch.testing.assert_close(found, torch.einsum("i,i...", weights, rows))


def test_samples_along_the_second_axis():
    torch.manual_seed(4)
    table, cells, head = nn.Embedding(10, 4), nn.LSTM(4, 5), nn.Linear(5, 3)

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.cells, self.head = table, cells, head

        def forward(self, words: torch.Tensor) -> torch.Tensor:
            return self.head(self.cells(self.table(words))[0][-1])

    own, words, y = Text(), torch.randint(10, (6, 5)), torch.arange(5) % 3
    model = GradientModule(own, batch_first=False)
    nn.functional.cross_entropy(model(words), y).backward()
    rows = [one.grad_sample for one in own.parameters()]
    model.remove_hooks()
    for i in range(5):
        loss = nn.functional.cross_entropy(own(words[:, i : i + 1]), y[i : i + 1])
        for found, row in zip(rows, torch.autograd.grad(loss, [*own.parameters()]), strict=True):
            torch.testing.assert_close(found[i], row)


def test_the_accountant_and_a_checkpoint_are_opacus_own():
    engines = [kind(accountant="rdp") for kind in (PrivacyEngine, opacus.PrivacyEngine, PrivacyEngine)]
    for engine in engines[:2]:
        trained(engine, 4)
    assert engines[0].get_epsilon(1e-5) == engines[1].get_epsilon(1e-5)
    model, optimizer, criterion, loader = private(engines[0], small())
    (x, y), other = next(iter(loader)), private(engines[2], small())
    criterion(model(x), y).backward()
    optimizer.step()
    with io.BytesIO() as kept:
        engines[0].save_checkpoint(path=kept, module=model, optimizer=optimizer)
        kept.seek(0)
        engines[2].load_checkpoint(path=kept, module=other[0], optimizer=other[1])
    assert apart([*model.parameters()], [*other[0].parameters()]) == 0
    assert engines[2].get_epsilon(1e-5) == engines[0].get_epsilon(1e-5)


def test_losses_of_ghost_clipping_are_added_and_multiplied():
    (x, y), sums = data().tensors, []
    for change in (lambda loss: 2 * loss + loss, lambda loss: -(-loss / 1 - 2 * loss)):
        torch.manual_seed(5)
        own = small()
        model, optimizer, criterion, _ = private(PrivacyEngine(), own, noise_multiplier=0.0, grad_sample_mode="ghost")
        change(criterion(model(x), y)).backward()
        optimizer.step()
        sums.append([one.summed_grad for one in own.parameters()])
    assert apart(*sums) < 1e-6
    norms = model.per_sample_gradient_norms
    expected = torch.cat([one.reshape(len(one), -1) for one in rows_of(small_again(), x, y)], 1).norm(dim=1)
    torch.testing.assert_close(norms, 3 * expected)


def test_ghost_clipping_keeps_nothing_and_says_when_there_is_nothing_to_clip():
    (x, y), own = data().tensors, small()
    model, _, criterion, _ = private(PrivacyEngine(), own, grad_sample_mode="ghost")
    criterion(model(x), y).backward()
    kept = [one for one in gc.get_objects() if type(one) is ArrivedGradients]  # of proxies no class is asked
    assert not [one for one in kept if one.theta.get("0.weight") is own[0].weight]
    model.eval()
    with pytest.raises(RuntimeError, match="no forward pass of the private model in train mode"):
        criterion(model(x), y).backward()


def small_again() -> nn.Module:
    torch.manual_seed(5)
    return small()


def test_other_modes_are_opacus_own():
    model, *_ = private(PrivacyEngine(), small(), grad_sample_mode="functorch")
    assert type(model) is opacus.GradSampleModule


def test_adaptive_clipping_is_refused_with_ghost():
    with pytest.raises(ValueError, match="clipping='flat' alone, not 'adaptive': pass grad_sample_mode='hooks'"):
        private(PrivacyEngine(), small(), grad_sample_mode="ghost", clipping="adaptive", **ADAPTIVE)


def test_opacus_own_loss_of_adaptive_ghost_clipping_makes_no_step_with_this_model():
    (x, y), own = data().tensors, small()
    model, optimizer, *_ = private(PrivacyEngine(), own, grad_sample_mode="ghost")
    losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    loss = DPTensorFastGradientAdaptiveClipping(model, optimizer, losses)
    with (
        pytest.warns(UserWarning, match="gradients are not clipped"),
        pytest.raises(AttributeError, match="per_sample_"),
    ):
        loss.backward()
    assert all(one.grad is None for one in own.parameters())


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_autocast_is_refused(mode):
    model, *_ = private(PrivacyEngine(), small(), grad_sample_mode=mode)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(gk.CannotWatch, match="called under autocast"):
        model(data().tensors[0])


class Counting(nn.Linear):
    """A layer that keeps a mean of what it has seen."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.register_buffer("seen", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.mul_(0.9).add_(x.detach().flatten(1).mean(0))
        return super().forward(x.flatten(1))


def test_what_would_be_wrong_or_not_private_is_refused():
    (x, y), loss = data().tensors, nn.functional.cross_entropy
    with pytest.raises(UnsupportedModuleError, match="BatchNorm"):
        private(PrivacyEngine(), nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 4)))
    with pytest.raises(NotImplementedError, match="normalizes over the batch: 1"):
        GradientHooks(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 4)))
    with pytest.raises(gk.CannotWatch, match="changes the buffer .*seen"):
        GradientModule(nn.Sequential(Counting()))(x)
    own = small()
    with pytest.raises(gk.CannotWatch, match="do not add up to what backward"):
        (loss(GradientModule(own)(x), y) + sum(one.square().sum() for one in own.parameters())).backward()
    model, _, criterion, _ = private(PrivacyEngine(), small())
    criterion(model(x), y).backward()
    with pytest.raises(ValueError, match="Poisson sampling is not compatible with grad accumulation"):
        criterion(model(x), y).backward()


class Shifted(nn.Module):
    """A bias that is added to all logits, which the loss does not depend on: its gradient is what rounding leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(100, 8), nn.Linear(8, 1)
        for one in self.parameters():
            nn.init.uniform_(one)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(words)).squeeze(2)


def test_a_gradient_that_is_zero_but_for_rounding_is_no_fault():
    torch.manual_seed(0)
    own = Shifted()
    nn.functional.cross_entropy(GradientModule(own)(torch.randint(100, (64, 12))), torch.randint(12, (64,))).backward()
    assert float(own.head.bias.grad.abs().max()) < 1e-6


def test_a_loss_that_is_none_that_was_said_is_taken_as_in_opacus_with_a_warning():
    own, (x, y) = small(), data().tensors
    model = GradientModule(own)
    with pytest.warns(UserWarning, match="the loss is the sum of its terms, and reduction='mean' says otherwise"):
        nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
    for one, rows in zip(own.parameters(), rows_of(own, x, y), strict=True):
        torch.testing.assert_close(one.grad_sample + 0, N * rows)


def test_a_copy_is_followed_and_a_model_that_is_given_back_is_not():
    (x, y), model = data().tensors, GradientModule(small())
    other = copy.deepcopy(model)
    nn.functional.cross_entropy(other(x), y).backward()
    assert all(one.grad_sample is not None for one in other.parameters())
    assert all(one.grad_sample is None for one in model.parameters())
    own = model.to_standard_module()
    nn.functional.cross_entropy(own(x), y).backward()
    assert not any(hasattr(one, "grad_sample") for one in own.parameters())
    other.eval()
    other.zero_grad()
    nn.functional.cross_entropy(other(x), y).backward()
    assert all(one.grad_sample is None for one in other.parameters())


def test_no_warning_comes_from_the_door():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Secure RNG")
        trained(PrivacyEngine(), 2)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_no_step_of_ghost_clipping_is_made_with_gradients_that_are_not_clipped(mode):
    (x, y), own = data().tensors, small()
    model, optimizer, criterion, _ = private(PrivacyEngine(), own, grad_sample_mode="ghost")
    before = [one.detach().clone() for one in own.parameters()]
    model.train(mode == "train")
    with pytest.warns(UserWarning, match="its gradients are not clipped, and .grad of the private model's"):
        nn.functional.cross_entropy(model(x), y).backward()
    with pytest.raises(AttributeError):
        optimizer.step()
    assert apart([*own.parameters()], before) == 0
    model.train()
    with pytest.raises(gk.CannotWatch, match="do not add up to what backward"):
        (criterion(model(x), y) + sum(one.square().sum() for one in own.parameters())).backward()
    assert all(one.grad is None for one in own.parameters())
    model.disable_hooks()
    nn.functional.cross_entropy(model(x), y).backward()
    assert all(one.grad is not None for one in own.parameters())


def test_ghost_clipping_is_to_the_length_that_the_noise_is_for():
    (x, y), own = data().tensors, small()
    model, optimizer, criterion, _ = private(PrivacyEngine(), own, grad_sample_mode="ghost", noise_multiplier=0.0)
    optimizer.max_grad_norm = 0.01  # as a scheduler of Opacus' does
    criterion(model(x), y).backward()
    expected = rows_of(own, x, y)
    weights = 0.01 / torch.cat([one.reshape(len(one), -1) for one in expected], 1).norm(dim=1)
    for one, rows in zip(own.parameters(), expected, strict=True):
        torch.testing.assert_close(one.grad, torch.einsum("i,i...", weights, rows), rtol=1e-3, atol=1e-6)


def test_a_model_that_was_made_for_another_kind_of_clipping_is_refused():
    model, *_ = private(PrivacyEngine(), small(), grad_sample_mode="ghost")
    with pytest.raises(ValueError, match="it is a GradientModule for ghost clipping with batch_first=True"):
        private(PrivacyEngine(), model, grad_sample_mode="hooks")


def test_backward_passes_for_inputs_alone_or_while_hooks_are_disabled_leave_nothing():
    (x, y), own = data().tensors, small()
    model, x = GradientModule(own), x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model(x), y)
    (found,) = torch.autograd.grad(loss, x, retain_graph=True)
    model.disable_hooks()
    loss.backward(retain_graph=True)
    assert all(one.grad_sample is None for one in own.parameters())
    torch.testing.assert_close(found, x.grad)
    model.enable_hooks()
    loss.backward()
    for one, rows in zip(own.parameters(), rows_of(own, x.detach(), y), strict=True):
        torch.testing.assert_close(one.grad_sample + 0, rows)
