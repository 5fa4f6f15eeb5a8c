"""Never stuck: what does not fit a batch is computed by the next kernel, and the first is tried again."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import gradkernels as gk
from gradkernels.check.modules import proof, verdicts
from gradkernels.check.modules.sample_passes import CallerBatch
from gradkernels.dispatch import bound_kernels, dispatcher, memory_limit
from gradkernels.dispatch.audit import seeded_audits
from gradkernels.dispatch.bound_kernels import MOST_DISPATCHERS
from gradkernels.engines.hooks.errors import Unfit

LOSS = nn.CrossEntropyLoss()
QUANTITIES = ("per_sample", "norms", "clipped_sum", "moments", "gradient")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def looped(model, x, y):
    """One float64 backward pass per sample: `(n, p)`."""
    model, own, rows = model.double(), [*model.parameters()], []
    for i in range(len(y)):
        one = tuple(part[i : i + 1] for part in x) if isinstance(x, tuple) else (x[i : i + 1].double(),)
        one = tuple(part.double() if part.is_floating_point() else part for part in one)
        found = torch.autograd.grad(LOSS(model(*one), y[i : i + 1]), own)
        rows.append(torch.cat([part.flatten() for part in found]))
    model.float()
    return torch.stack(rows)


class Switched(nn.Module):
    """Puts a parameter into data in place, which hooks do not follow, where the data say so."""

    def __init__(self):
        super().__init__()
        self.linear, self.shift = nn.Linear(4, 3), nn.Parameter(torch.randn(3))

    def forward(self, x):
        h = self.linear(x)
        if x.detach().sum() > 1e6:
            h[:, 0] += self.shift[0]
            return h - 2 * self.shift
        return torch.tanh(h) + self.shift


def batches():
    x, y = torch.randn(7, 4), torch.arange(7) % 3
    far = x.clone()
    far[:, 0] += 2e6
    return x, far, y


def test_the_fast_way_is_back_as_soon_as_it_fits():
    x, far, y = batches()
    model = Switched()
    problem = gk.ModuleProblem(model, LOSS)
    k = gk.fastest(problem, "norms", like=(None, x, y))
    seen = []
    for data in (x, far, x, far, far, far, far, x, x, x, x):
        torch.testing.assert_close(k(None, data, y).double(), looped(model, data, y).norm(dim=1), rtol=1e-4, atol=1e-3)
        seen.append(k.kernel.key)
    hooks, other = "torch.hooks.norms", "torch.jacobian+.norms"  # vmap has no rule for such a branch
    # After the second miss in a row it waits for a call, after the third for three.
    assert seen == [hooks, other, hooks, *[other] * 7, hooks]


def test_why_tells_who_computed_and_the_cause_first():
    x, far, y = batches()
    k = gk.fastest(gk.ModuleProblem(Switched(), LOSS), "norms", like=(None, x, y))
    k(None, far, y)
    first, cause, *_ = k.why.splitlines()
    assert first.startswith("torch.jacobian+.norms for n = 7, by a rule")
    assert cause == "  torch.hooks.norms: Unfit: add_ changes data in place with a parameter"
    k(None, x, y)
    assert k.why.startswith("torch.hooks.norms for n = 7")
    assert "Unfit" not in k.why


def test_what_is_chosen_is_for_the_call_itself_whatever_came_between(monkeypatch):
    x, _, y = batches()
    problem, asked, really = gk.ModuleProblem(nn.Linear(4, 3), LOSS), [], dispatcher.choose
    k = gk.fastest(problem, "norms", like=(None, x, y))
    wide = {name: one.detach().double() for name, one in problem.parameters().items()}
    monkeypatch.setattr(dispatcher, "choose", lambda request, *given: asked.append(request) or really(request, *given))
    for theta, data in ((None, x), (wide, x.double()), (None, x), (None, x[:2]), (wide, x.double())):
        k(theta, data, y[: len(data)])
        assert k.dispatcher.request.case.n == len(data)
        assert k.dispatcher.request.case.dtype == str(data.dtype).removeprefix("torch.")
    assert [(one.case.n, one.case.dtype) for one in asked] == [(7, "float64"), (2, "float32")]


def test_a_kernel_that_is_asked_for_says_why_it_cannot_and_can_again_later():
    x, far, y = batches()
    problem = gk.ModuleProblem(Switched(), LOSS)
    k = gk.fastest(problem, "norms", like=(None, x, y), kernel="torch.hooks")
    right = k(None, x, y)
    for _ in range(3):
        with pytest.raises(Unfit, match="add_ changes data in place with a parameter"):
            k(None, far, y)
        torch.testing.assert_close(k(None, x, y), right)


def test_an_error_of_the_model_is_the_models_own_and_outlives_no_call():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    problem, y = gk.ModuleProblem(model, LOSS), torch.tensor([0, 1, 2])
    tokens, beyond = torch.tensor([[1, 2], [3, 4], [0, 1]]), torch.tensor([[1, 2], [3, 9], [0, 1]])
    right = gk.norms(problem, None, tokens, y)
    for _ in range(4):
        with pytest.raises(IndexError):
            gk.norms(problem, None, beyond, y)
        torch.testing.assert_close(gk.norms(problem, None, tokens, y), right)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("sizes", [(1, 5, 1), (5, 1, 4), (1, 1, 2)])
def test_any_number_of_samples_after_any_other(quantity, sizes):
    x, _, y = batches()
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    problem, rows = gk.ModuleProblem(model, LOSS), looped(model, x, y)
    for n in sizes:
        got = getattr(gk, quantity)(problem, None, x[:n], y[:n])
        some, norms = rows[:n], rows[:n].norm(dim=1)
        want = {"per_sample": some, "norms": norms, "gradient": some.mean(0),
                "clipped_sum": norms.clamp(min=1).reciprocal() @ some,
                "moments": torch.cat([some.mean(0), some.var(0, correction=0)])}[quantity]  # fmt: skip
        parts = [*got.values()] if isinstance(got, dict) else [one for part in got for one in part.values()] if (
            quantity == "moments") else [got]  # fmt: skip
        flat = torch.cat([one.flatten(1) if quantity == "per_sample" else one.flatten() for one in parts], -1)
        torch.testing.assert_close(flat.double(), want, rtol=1e-4, atol=1e-6)


def test_no_samples_give_nothing_and_no_proof(monkeypatch):
    monkeypatch.setattr(verdicts, "prove_on_samples", lambda *given: pytest.fail("there is nothing to prove on"))
    problem = gk.ModuleProblem(nn.Linear(4, 3), LOSS)
    x, y = torch.randn(0, 4), torch.arange(0)
    assert gk.norms(problem, None, x, y).shape == (0,)
    assert gk.per_sample(problem, None, x, y)["weight"].shape == (0, 3, 4)
    assert not any(one.any() for one in gk.clipped_sum(problem, None, x, y).values())
    with pytest.raises(ValueError, match="n = 0"):
        gk.gradient(problem, None, x, y)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
def test_a_last_chunk_of_one(chunk):
    x, _, y = batches()
    problem = gk.ModuleProblem(Switched(), LOSS)
    want = looped(problem.model, x, y).norm(dim=1)
    got = gk.norms(problem, None, x, y, kernel=f"torch.hooks[chunk={chunk}]")
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-6)


def test_a_limit_that_ends_in_a_chunk_of_one():
    model = nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3))
    problem, x, y = gk.ModuleProblem(model, LOSS), torch.randn(7, 300), torch.arange(7) % 3
    k = gk.fastest(problem, "norms", like=(None, x, y), max_bytes=8 * 2**20 + 3 * 375_000 + 28)
    assert dict(k.kernel.set_options)["chunk"] in (2, 3)
    torch.testing.assert_close(k(None, x, y).double(), looped(model, x, y).norm(dim=1), rtol=1e-4, atol=1e-6)


class Trimmed(nn.Module):
    """Trims the padding to the longest of the batch."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)

    def forward(self, x, lengths):
        x = x[:, : int(lengths.max())]
        return self.layer(x, src_key_padding_mask=torch.arange(x.shape[1])[None] >= lengths[:, None])[:, 0, :3]


def test_lengths_that_change_from_batch_to_batch():
    model = Trimmed()
    problem, y = gk.ModuleProblem(model, LOSS), torch.arange(5) % 3
    for longest in (6, 4, 8, 6):
        x, lengths = torch.randn(5, 8, 4), torch.tensor([longest, 1, 2, longest, 3])
        got = gk.norms(problem, None, (x, lengths), y)
        torch.testing.assert_close(got.double(), looped(model, (x, lengths), y).norm(dim=1), rtol=1e-4, atol=1e-6)


# --- what the proof costs, and what is kept


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_a_new_length_or_number_of_samples_proves_nothing(monkeypatch):
    model = nn.Sequential(nn.Linear(4, 5), Mean(), nn.Linear(5, 3))
    problem = gk.ModuleProblem(model, LOSS)
    gk.norms(problem, None, torch.randn(6, 3, 4), torch.arange(6) % 3)
    for name in ("prove_on_samples", "require_independent_samples"):
        monkeypatch.setattr(verdicts, name, lambda *given: pytest.fail("proven again"))
    for n, length in ((7, 3), (9, 5), (2, 1)):
        gk.norms(problem, None, torch.randn(n, length, 4), torch.arange(n) % 3)
    gk.norms(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, torch.randn(3, 3, 4), torch.arange(3))


def large_tensors():
    return [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and one.numel() > 1_000_000]


def test_a_first_call_takes_few_passes_and_keeps_no_gradient():
    gc.collect()
    before = large_tensors()  # what other tests hold
    model = nn.Sequential(nn.Linear(2000, 2000), nn.Linear(2000, 3))  # 16 MB, of which 128 MiB are taken for rows
    counted = []
    handle = model[1].register_forward_hook(lambda module, given, output: counted.append(len(output)))
    problem = gk.ModuleProblem(model, LOSS)
    x, y = torch.randn(32, 2000), torch.arange(32) % 3
    with seeded_audits(0):
        gk.norms(problem, None, x, y)
    # Samples seen: 3 alone and 3 at once by the inspection, 8 alone and twice 8 by the proof, 32 by the call,
    # and 3 alone by its audit.
    assert sum(counted) <= 3 + 3 + 8 + 16 + 32 + 3
    handle.remove()
    kept = {id(one) for one in large_tensors()} - {id(one) for one in before}
    assert kept == {id(model[0].weight)}


def test_a_model_that_is_let_go_is_gone():
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    problem = gk.ModuleProblem(model, lambda output, y, keep=model: LOSS(output, y))
    x, _, y = batches()
    for quantity in QUANTITIES:
        getattr(gk, quantity)(problem, None, x, y)
    k = gk.fastest(problem, "norms", like=(None, x, y))
    k(None, x, y)
    gone = weakref.ref(model)
    del model, problem, k
    gc.collect()
    assert gone() is None


def test_a_changed_model_is_looked_at_anew(monkeypatch):
    looked = []
    really = verdicts.require_independent_samples
    monkeypatch.setattr(verdicts, "require_independent_samples", lambda *given: looked.append(1) or really(*given))
    model = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 3)).eval()
    problem, (x, _, y) = gk.ModuleProblem(model, LOSS), batches()
    k = gk.fastest(problem, "norms", like=(None, x, y))
    model.train()
    with pytest.raises(ValueError, match="draws random numbers"):
        k(None, x, y)
    model.eval()
    k(None, x, y)
    assert len(looked) == 2
    model[2] = nn.Linear(5, 3).eval()
    torch.testing.assert_close(k(None, x, y).double(), looped(model, x, y).norm(dim=1), rtol=1e-4, atol=1e-6)
    model[0] = nn.Linear(4, 5, bias=False).eval()
    torch.testing.assert_close(k(None, x, y).double(), looped(model, x, y).norm(dim=1), rtol=1e-4, atol=1e-6)
    assert len(looked) == 3


def test_a_model_that_is_frozen_after_use_says_so_and_computes_again_unfrozen():
    model = nn.Linear(4, 3)
    problem, (x, _, y) = gk.ModuleProblem(model, LOSS), batches()
    before = gk.norms(problem, None, x, y)
    model.requires_grad_(False)
    for compute in (gk.norms, gk.gradient):
        with pytest.raises(ValueError, match="Linear has no parameter that requires a gradient"):
            compute(problem, None, x, y)
    model.requires_grad_(True)
    torch.testing.assert_close(gk.norms(problem, None, x, y), before)


@pytest.mark.parametrize("way", [None, "torch.loop", "torch.hooks"])
def test_a_hook_that_changes_a_parameters_gradient_is_refused_until_it_is_taken_off(way):
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3))
    problem, (x, _, y) = gk.ModuleProblem(model, LOSS), batches()
    before = gk.per_sample(problem, None, x, y, kernel=way)
    handle = model[1].weight.register_hook(lambda g: 0 * g)
    for given in (None, {name: one.detach().clone() for name, one in model.named_parameters()}):
        with pytest.raises(
            ValueError, match=r"^1\.weight has a hook \(register_hook\).*apply what it does to the result"
        ):
            gk.per_sample(problem, given, x, y, kernel=way)
    model[1].weight.requires_grad_(False)
    gk.per_sample(problem, None, x, y, kernel=way)  # it is not trained
    model[1].weight.requires_grad_(True)
    handle.remove()
    model[1].weight.register_post_accumulate_grad_hook(lambda parameter: None)
    torch.testing.assert_close(gk.per_sample(problem, None, x, y, kernel=way), before)


class LongestFirst(nn.Module):
    """Takes its samples by falling length alone, as packed sequences do that are said to be sorted."""

    def __init__(self):
        super().__init__()
        self.gru, self.out = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x, lengths):
        return self.out(self.gru(pack_padded_sequence(x, lengths, batch_first=True))[1][-1])


def test_a_model_that_asks_for_an_order_of_the_samples():
    torch.manual_seed(0)
    x, lengths, y = torch.randn(5, 8, 4), torch.tensor([8, 6, 5, 3, 1]), torch.tensor([0, 1, 2, 0, 1])
    model = LongestFirst()
    problem = gk.ModuleProblem(model, LOSS)
    want = looped(model, (x, lengths), y).norm(dim=1).float()
    for way in (None, "torch.loop"):
        torch.testing.assert_close(gk.norms(problem, None, (x, lengths), y, kernel=way), want)
    why = gk.fastest(problem, "norms", like=(None, (x, lengths), y)).why
    assert "must be sorted" not in why  # what other orders were tried is nothing that the caller did


def test_a_proof_under_a_limit_has_one_result_at_a_time(monkeypatch):
    torch.manual_seed(0)
    gc.collect()  # what other tests left
    x, y = torch.randn(12, 300), torch.randn(12, 300)
    alive, really = [], proof.require_agreement

    def counting(sample, chosen, results):
        tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
        alive.append(sum(one.numel() >= 300 * 300 for one in tensors))
        return really(sample, chosen, results)

    monkeypatch.setattr(proof, "require_agreement", counting)
    problem, kernel = gk.ModuleProblem(nn.Linear(300, 300), nn.MSELoss()), gk.kernel("torch.hooks.clipped_sum")
    batch, compute = CallerBatch(problem, problem.parameters(), x, y), kernel.build(problem)
    for tight in (False, True):
        verdicts.require_proof(kernel, f"tight: {tight}", batch, compute, tight=tight)
    both, first, second = alive
    assert first == second == both - 1


def test_what_one_sample_at_a_time_raises_is_raised_before_anything_is_compiled(monkeypatch, capfd):
    x, _, y = batches()
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    problem, tried = gk.ModuleProblem(model, LOSS), []
    gk.norms(problem, None, x, y)
    build = gk.Kernel.build
    monkeypatch.setattr(gk.Kernel, "build", lambda kernel, of: tried.append(kernel.key) or build(kernel, of))
    wrong = torch.where(torch.arange(12) == 11, 7, 0)  # beyond the samples that are looked at first
    for bad, says in (((x[:, :3], y), "shapes cannot be multiplied"), ((torch.randn(12, 4), wrong), "out of bounds")):
        with pytest.raises((RuntimeError, IndexError), match=says):
            gk.norms(problem, None, *bad)
    assert tried
    assert {key.partition(".")[0] for key in tried} == {"torch"}
    assert not any("compiled" in key for key in tried)
    assert capfd.readouterr().err == ""


def test_limits_of_memory_that_change_at_each_call_are_not_all_kept(monkeypatch):
    x, _, y = batches()
    problem, looks = gk.ModuleProblem(nn.Linear(4, 3), LOSS), []
    measure = memory_limit.bytes_per_sample
    monkeypatch.setattr(memory_limit, "bytes_per_sample", lambda *some: looks.append(1) or measure(*some))
    for i in range(3 * MOST_DISPATCHERS):
        gk.norms(problem, None, x, y, max_bytes=2**24 + i)
    assert len(problem.cache["dispatchers"]) == MOST_DISPATCHERS
    assert len(looks) == 1


def test_a_dispatcher_is_found_again_and_the_one_not_used_for_longest_makes_room(monkeypatch):
    x, _, y = batches()
    problem, made = gk.ModuleProblem(nn.Linear(4, 3), LOSS), []
    make = bound_kernels.dispatcher_for
    monkeypatch.setattr(bound_kernels, "dispatcher_for", lambda request: made.append(request) or make(request))
    monkeypatch.setattr(bound_kernels, "MOST_DISPATCHERS", 2)
    limits = [2**24 + i for i in (0, 1, 0, 2, 0, 1)]
    for limit in limits:
        gk.norms(problem, None, x, y, max_bytes=limit)
    assert [request.criteria.max_bytes - 2**24 for request in made] == [0, 1, 2, 1]
    gk.gradient(problem, None, x, y, max_bytes=limits[-1])
    assert [(name, given[2] - 2**24) for name, given in problem.cache["dispatchers"]] == [("norms", 1), ("gradient", 1)]
