"""Bi-RPT on models of all kinds, against differentiation in other ways; `xyield.bilevel` never sees this file's models.

The reference for whole steps is Algorithm 2 in plain PyTorch, differentiated straight through the lower level. For
models from libraries it is a difference of two values of the target loss, which needs no second derivative at all.
"""

import ast
import copy
import io
import itertools
import json
import subprocess
import sys
import textwrap
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from xyield import bilevel
from xyield.bilevel import BiRPT, hypergradient
from xyield.masks import maskable, masked

SETTINGS = {"gamma": 1e-3, "mask_rate": 2.0, "lower_rate": 0.05}


class TwoHeads(nn.Module):
    "A network for two domains; its heads are declared before its body."

    def __init__(self, inputs=4, width=6, norm=False, dropout=0.0):
        super().__init__()
        self.target_head, self.source_head = nn.Linear(width, 1), nn.Linear(width, 3)
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.BatchNorm1d(width) if norm else nn.Identity(), nn.Tanh(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.Tanh())

    def forward(self, x):
        features = self.body(x)
        return self.source_head(features), self.target_head(features)


def source_loss(model, batch):
    return F.cross_entropy(model(batch[0])[0], batch[1])


def target_loss(model, batch):
    return F.mse_loss(model(batch[0])[1], batch[1])


def batches(n=8, seed=0, inputs=4, dtype=torch.float64):
    "Endless pairs of a source batch and a target batch."
    generator = torch.Generator().manual_seed(seed)
    while True:
        x_s, x_t = (torch.randn(n, inputs, generator=generator, dtype=dtype) for _ in range(2))
        yield (x_s, torch.randint(3, (n,), generator=generator)), (x_t, x_t[:, :1].sin())


def new(model=None, rate=0.1, losses=(source_loss, target_loss), optimizer=None, **settings):
    "A BiRPT of `model`, in double precision unless it is given."
    if model is None:
        torch.manual_seed(0)
        model = TwoHeads().double()
    optimizer = optimizer or torch.optim.SGD(model.parameters(), rate)
    return BiRPT(model, *losses, optimizer, **SETTINGS | settings)


def run(method, steps=4, seed=0, **options):
    "Some steps on new batches; the losses."
    found = []
    for source, target in itertools.islice(batches(seed=seed, **options), steps):
        taken = [source] * method.lower_steps if method.lower_steps > 1 else source
        found.append(method.step(taken if method.needs_source else None, target))
    return found


def numbers(model):
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def same(found, expected, **tolerance):
    "Raise unless the tensors have the same names and values, to the bit unless a tolerance is given."
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **tolerance or {"rtol": 0, "atol": 0}, msg=name)


# Algorithm 2 itself


def plain_gate(m, epsilon):
    return m**2 / (m**2 + epsilon)


class Reference:
    "Algorithm 2 in plain PyTorch, with automatic differentiation through all of the lower level."

    def __init__(self, model, losses, names, rate, lower_steps=1, lower_mask_rate=0.0, epsilon=0.1, **settings):
        self.model, self.losses, self.rate, self.p = model, losses, rate, lower_steps
        self.settings, self.lower_mask_rate, self.epsilon, self.decay = settings, lower_mask_rate, epsilon, 1.0
        self.theta = {n: p.detach().clone() for n, p in model.named_parameters()}
        self.m_s, self.m_t = ({n: torch.ones_like(self.theta[n]) for n in names} for _ in range(2))

    def loss(self, which, weights, *gates, batch):
        for mask in gates:
            weights = weights | {n: weights[n] * plain_gate(m, self.epsilon) for n, m in mask.items()}

        class Call(nn.Module):
            def __init__(self, model, loss):
                super().__init__()
                self.model, self.loss = model, loss

            def forward(self, batch):
                return self.loss(self.model, batch)

        call = Call(self.model, self.losses[which])
        return functional_call(call, {f"model.{n}": w for n, w in weights.items()}, (batch,))

    def step(self, source_batches, target_batch):
        parts = [{n: t.clone().requires_grad_() for n, t in d.items()} for d in (self.theta, self.m_s, self.m_t)]
        star, m_star, m_t = parts
        m_s = m_star
        for batch in source_batches:
            value = self.loss(0, star, m_star, batch=batch)
            gradient = torch.autograd.grad(value, [*star.values(), *m_star.values()], create_graph=True,
                                           allow_unused=True, materialize_grads=True)
            along = dict(zip([*star, *(("m", n) for n in m_star)], gradient, strict=True))
            star = {n: t - self.decay * self.settings["lower_rate"] * along[n] for n, t in star.items()}
            m_star = {n: m - self.decay * self.lower_mask_rate * along["m", n] for n, m in m_star.items()}
        star = {n: t * 1 for n, t in star.items()}
        value = self.loss(1, star, m_star, m_t, batch=target_batch)
        wanted = [*star.values(), *m_s.values(), *m_t.values()]
        found = list(torch.autograd.grad(value, wanted, allow_unused=True, materialize_grads=True))
        v, d_s, d_t = (dict(zip(d, found[i:], strict=False)) for d, i in
                       ((star, 0), (m_s, len(star)), (m_t, len(star) + len(m_s))))
        used = {n for n, t in v.items() if t.abs().sum() > 0}
        rate = self.decay * self.settings["mask_rate"]
        with torch.no_grad():
            self.theta = {n: t.detach() - self.decay * self.rate * v[n] for n, t in star.items()}
            hat_s = {n: m.detach() - rate * d_s[n] for n, m in m_star.items()}
            hat_t = {n: m.detach() - rate * d_t[n] for n, m in m_t.items()}
            for own, other, name in ((hat_s, hat_t, "m_s"), (hat_t, hat_s, "m_t")):
                setattr(self, name, {n: self.shrunk(m, other[n], rate) if n in used else m for n, m in own.items()})
        return value.detach()

    def shrunk(self, m, other, rate):
        "Eqs 10 and 11, case by case."
        threshold = torch.where(other == 0, 0, self.settings["gamma"] * rate / other.abs())
        return torch.where(m >= threshold, m - threshold, torch.where(m <= -threshold, m + threshold, 0))


@pytest.mark.parametrize("p,lower_mask_rate", [(0, 0.0), (1, 0.0), (3, 0.0), (1, 0.3), (3, 0.3)])
def test_steps_are_algorithm_2(p, lower_mask_rate):
    "Weights and masks after steps over three epochs, with a decaying rate: all of λ_l, λ_m, λ_{m,l} and λ_u decay."
    options = SETTINGS | {"lower_steps": p, "lower_mask_rate": lower_mask_rate, "mask_rate": 60.0, "gamma": 0.00135}
    method = new(**options)
    reference = Reference(copy.deepcopy(method.model), (source_loss, target_loss), method.masked, 0.1, **options)
    scheduler, stream = torch.optim.lr_scheduler.ExponentialLR(method.optimizer, 0.5), batches()
    for _ in range(3):
        for _ in range(2):
            drawn = [next(stream) for _ in range(max(p, 1))]
            sources, target = [source for source, _ in drawn][:p], drawn[-1][1]
            loss = method.step(None if p == 0 else sources[0] if p == 1 else sources, target)
            torch.testing.assert_close(loss, reference.step(sources, target), rtol=1e-11, atol=0)
        method.end_epoch()
        scheduler.step()
        reference.epsilon, reference.decay = 0.9 * reference.epsilon, 0.5 * reference.decay
    for found, expected in ((dict(method.model.named_parameters()), reference.theta),
                            (method.m_s, reference.m_s), (method.m_t, reference.m_t)):
        same({n: t.detach() for n, t in found.items()}, expected, rtol=1e-10, atol=1e-12)
    assert any((m == 0).any() for m in method.m_s.values()) and any((m < 0.99).any() for m in method.m_s.values())


LOOPS = {"gated": (2, 2), "twice_gated": (3, 1), "through_gates": (4, 1), "lower_step": (3, 2), "adjoint": (6, 2),
         "masks_step": (4, 3)}  # -> how many tensors and numbers they take


def loop_arguments(name, epsilon=0.1):
    "Tensors in single precision, masks with zeros among them, and numbers."
    generator, (n, m) = torch.Generator().manual_seed(0), LOOPS[name]
    tensors = [torch.randn(3, 1234, generator=generator) for _ in range(n)]
    for i, tensor in enumerate(tensors):
        tensor[i % 3, 100 * i : 100 * i + 300] = 0
    if name == "masks_step":
        tensors[1][2, 900:950] = tensors[3][2, 900:950] = 0  # the other mask is zero, also after the gradient step
    return tensors, [0.05, 0.02, 2.0] if name == "masks_step" else [epsilon, 0.03][:m]


def several(found):
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("epsilon", [0.3, 1e-4, 1e-30])
@pytest.mark.parametrize("name", LOOPS)
def test_loops_compute_their_formulas(name, epsilon, monkeypatch):
    "The compiled loops in single precision, against the formulas in double; and it is the loops that are called."
    (tensors, rates), used = loop_arguments(name, epsilon), []
    compiled = bilevel._compiled
    monkeypatch.setattr(bilevel, "_compiled", lambda loop: used.append(loop) or compiled(loop))
    function = getattr(bilevel, name)
    found = several(function(*tensors, *rates))
    exact = several(function.__wrapped__(*(t.double() for t in tensors), *rates))
    assert len(used) == 1
    for ours, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=2e-6 * max(1, expected.abs().median()))
        if name == "masks_step":
            assert ours.eq(0).equal(expected.eq(0))


@pytest.mark.parametrize("name", LOOPS)
def test_formulas_where_loops_cannot_be(name, monkeypatch):
    "Double precision, strides, numbers among tensors, and tensors whose gradient is wanted."
    monkeypatch.setattr(bilevel, "_compiled", None)
    function, (tensors, rates) = getattr(bilevel, name), loop_arguments(name)
    expected = several(function.__wrapped__(*tensors, *rates))
    wanted = [t.clone().requires_grad_() for t in tensors]
    strange = [t.T.contiguous().T for t in tensors]
    for other in ([t.double() for t in tensors], strange, wanted):
        for ours, theirs in zip(several(function(*other, *rates)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, check_dtype=False, rtol=1e-4, atol=1e-5)
            assert other is not wanted or ours.requires_grad
    assert several(function(tensors[0], *(torch.tensor(0.5) for _ in tensors[1:]), *rates))[0].shape == (3, 1234)


def test_loops_are_compiled_where_no_cache_can_be_written(tmp_path, root):
    "An installation and a home that are read-only."
    code = """if True:
        import numba.core.caching, torch
        numba.core.caching.CacheImpl._locator_classes = []
        from xyield import bilevel
        print(bilevel.gated(torch.ones(3), torch.ones(3), 1.0, 2.0).tolist(), bilevel._compiled.cache_info().currsize)
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[0] == "[1.0, 1.0, 1.0] 1"


def test_the_second_term_is_there():
    "What the reference would miss if it were wrong in the same way: masks differ with and without a lower level."
    with_lower, without = new(), new(lower_rate=0.0)
    run(with_lower), run(without)
    assert any((with_lower.m_s[n] - without.m_s[n]).abs().max() > 1e-4 for n in with_lower.m_s)


def test_an_independent_library_finds_the_same_hypergradient():
    "torchopt differentiates through its own optimizer; one lower step, and three."
    import torchopt

    stream = batches()
    for p in (1, 3):
        method = new(lower_steps=p, gamma=0.0, mask_rate=1.0, lower_rate=0.05)
        model, sources, target = copy.deepcopy(method.model), [next(stream)[0] for _ in range(p)], next(stream)[1]
        masks = {n: torch.ones_like(model.get_parameter(n)).requires_grad_() for n in method.masked}
        inner = torchopt.MetaSGD(model, lr=0.05)

        def call(loss, batch, *masks, model=model):
            def linear(layer, name, x):
                weight = layer.weight
                for mask in masks:
                    weight = weight * plain_gate(mask[f"{name}.weight"], 0.1)
                return F.linear(x, weight, layer.bias)

            def forward(x):
                h = torch.tanh(linear(model.body[0], "body.0", x))
                h = torch.tanh(linear(model.body[4], "body.4", h))
                return linear(model.source_head, "source_head", h), linear(model.target_head, "target_head", h)

            return loss(forward, batch)

        for batch in sources:
            inner.step(call(source_loss, batch, masks))
        ones = {n: torch.ones_like(m) for n, m in masks.items()}
        value = call(target_loss, target, masks, ones)
        theirs = torch.autograd.grad(value, list(masks.values()))
        method.step(sources if p > 1 else sources[0], target)
        ours = {n: 1 - m for n, m in method.m_s.items()}
        same(ours, dict(zip(masks, theirs, strict=True)), rtol=1e-9, atol=1e-14)


# Models of all kinds


class Text(nn.Module):
    "An embedding, a recurrent layer, and an output that is tied to the embedding."

    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 6, num_layers=2, batch_first=True)
        self.output = nn.Linear(6, 11)
        self.output.weight = self.words.weight

    def forward(self, tokens):
        return self.output(self.lstm(self.words(tokens))[0])


def next_word(model, tokens):
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def class_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def pictures(size=32, n=6):
    return [(torch.randn(n, 3, size, size, dtype=torch.float64), torch.randint(5, (n,))) for _ in range(2)]


def from_timm(name, **options):
    return timm.create_model(name, num_classes=5, **options), class_loss, pictures()


def vit(checkpoints=False):
    model, *rest = from_timm("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=24, num_heads=3)
    model.set_grad_checkpointing(checkpoints)
    return model, *rest


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Flatten(), nn.Linear(24, 5))
    return model, class_loss, [(torch.randn(6, 3, 8, dtype=torch.float64), torch.randint(5, (6,))) for _ in range(2)]


def constrained():
    "Weights that are computed from parameters."
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 5))
    return model, class_loss, [(torch.randn(6, 4, dtype=torch.float64), torch.randint(5, (6,))) for _ in range(2)]


MODELS = {
    "MLP": lambda: (nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 5)), class_loss,
                    [(torch.randn(6, 4, dtype=torch.float64), torch.randint(5, (6,))) for _ in range(2)]),
    "LSTM": lambda: (Text(), next_word, [torch.randint(11, (3, 7)) for _ in range(2)]),
    "attention": transformer,
    "parametrizations": constrained,
    "ResNet-18": lambda: from_timm("resnet18", channels=(4, 4, 8, 8)),
    "MobileNetV3": lambda: from_timm("mobilenetv3_small_050"),
    "ViT": vit,
    "ViT, checkpoints": lambda: vit(checkpoints=True),
}
WANTED = {"LSTM": lambda name: True, "parametrizations": lambda name: "original" in name}


def after_lower_step(model, loss, masks, data, rate=0.01, epsilon=0.1):
    "The target loss after a lower step under `masks`, by first derivatives alone; `model` is left as it was."
    source, target = data
    model = copy.deepcopy(model)
    theta = {n: p.detach().clone() for n, p in model.named_parameters()}
    with masked(model, {n: plain_gate(m, epsilon) for n, m in masks.items()}):
        shadow = copy.deepcopy(model)  # whose buffers nobody sees
        gradient = torch.autograd.grad(loss(shadow, source), list(shadow.parameters()), allow_unused=True)
    with torch.no_grad():
        for (name, p), g in zip(model.named_parameters(), gradient, strict=True):
            gated = 1 if name not in masks else plain_gate(masks[name], epsilon)
            g = 0 if g is None else g * gated
            p.copy_((theta[name] - rate * g) * gated * (1 / 1.1 if name in masks else 1))
    return loss(model, target).item()


@pytest.mark.parametrize("kind", MODELS)
def test_hypergradient_is_the_slope_of_the_target_loss(kind):
    "Along a random direction of the source masks, in double precision, to six digits."
    torch.manual_seed(3)
    model, loss, data = MODELS[kind]()
    model = model.double().train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no falling back
        method = new(model, losses=(loss, loss), masked=WANTED.get(kind), gamma=0.0, mask_rate=1.0, lower_rate=0.01)
        direction = {n: torch.randn_like(m) for n, m in method.m_s.items()}
        h, values = 1e-6, []
        for sign in (1, -1):
            masks = {n: 1 + sign * h * d for n, d in direction.items()}
            values.append(after_lower_step(model, loss, masks, data))
        method.step(*data)
    slope = sum(((1 - m) * direction[n]).sum() for n, m in method.m_s.items()).item()
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-6)


def test_checkpointing_changes_nothing():
    "Activations that are computed again see the masked weights, not the model's own."
    class Checkpointed(TwoHeads):
        def forward(self, x):
            features = checkpoint(self.body, x, use_reentrant=False)
            return self.source_head(features), self.target_head(features)

    torch.manual_seed(0)
    method, plain = new(Checkpointed().double()), new()
    run(method), run(plain)
    same(numbers(method.model), numbers(plain.model))
    same(method.m_s, plain.m_s)


def test_which_weights_have_masks():
    method = new()
    assert method.masked == ["target_head.weight", "source_head.weight", "body.0.weight", "body.4.weight"]
    assert "target_head.weight, source_head.weight, body.0.weight" in repr(method)
    body = new(masked=lambda name: name.startswith("body."))
    assert body.masked == list(body.m_s) == ["body.0.weight", "body.4.weight"]
    assert "left out: target_head.weight, source_head.weight" in repr(body)
    text = Text().double()
    assert maskable(text) == []  # an embedding, though tied to a linear layer, and a recurrent layer
    assert maskable(text, lambda name: name.startswith("lstm")) == [
        "lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"]
    assert "in_proj_weight" in maskable(nn.MultiheadAttention(4, 2))
    assert maskable(nn.MultiheadAttention(4, 2, kdim=3, vdim=5)) == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


def test_tied_weights_stay_tied_and_move_together():
    "The two uses of a weight are one parameter: its derivative is the sum, as the reference has it."
    class Tied(TwoHeads):
        def __init__(self):
            super().__init__(inputs=6)
            self.body[4].weight = self.body[0].weight

    torch.manual_seed(0)
    method = new(Tied().double())
    reference = Reference(copy.deepcopy(method.model), (source_loss, target_loss), method.masked, 0.1, **SETTINGS)
    assert "body.4.weight" not in method.masked
    for source, target in itertools.islice(batches(inputs=6), 3):
        method.step(source, target)
        reference.step([source], target)
    same({n: p.detach() for n, p in method.model.named_parameters()}, reference.theta, rtol=1e-10, atol=1e-12)
    method.finish()
    assert method.model.body[4].weight is method.model.body[0].weight


def test_a_module_in_two_places_stays_one():
    "functional_call by itself puts a stand-in back instead of the parameter."
    class Twice(TwoHeads):
        def __init__(self):
            super().__init__(inputs=6)
            self.body[4] = self.body[0]

    torch.manual_seed(0)
    method = new(Twice().double())
    weight = method.model.body[0].weight
    reference = Reference(copy.deepcopy(method.model), (source_loss, target_loss), method.masked, 0.1, **SETTINGS)
    for source, target in itertools.islice(batches(inputs=6), 3):
        method.step(source, target)
        reference.step([source], target)
    assert method.model.body[4].weight is method.model.body[0].weight is weight
    same({n: p.detach() for n, p in method.model.named_parameters()}, reference.theta, rtol=1e-10, atol=1e-12)


def test_frozen_parameters_stay_put_to_the_bit():
    "Frozen ones and those that the optimizer was not given, with a gradient left over from before, and weight decay."
    torch.manual_seed(0)
    model = TwoHeads().double()
    source, target = next(batches())
    (source_loss(model, source) + target_loss(model, target)).backward()  # gradients from an earlier training
    model.body[0].requires_grad_(False)
    some = [p for n, p in model.named_parameters() if n != "body.4.weight"]
    optimizer = torch.optim.AdamW(some, 0.1, weight_decay=0.1)
    before, method = numbers(model), new(model, optimizer=optimizer)
    assert method.masked == ["target_head.weight", "source_head.weight"]
    run(method)
    method.finish()
    after = numbers(model)
    still = {"body.0.weight", "body.0.bias", "body.4.weight"}
    assert {n for n in before if after[n].equal(before[n])} == still


def test_a_head_of_the_source_alone_is_neither_decayed_nor_pruned():
    "It moves by lower steps only; the upper optimizer's weight decay and the regulariser are not for it."
    torch.manual_seed(0)
    model = TwoHeads().double()
    method = new(model, optimizer=torch.optim.AdamW(model.parameters(), 0.01, weight_decay=10.0), gamma=0.1)
    run(method, steps=30)
    assert method.sparsity()["m_s"]["target_head"] == 1.0 and method.sparsity()["both"]["source_head"] == 0.0
    assert method.m_t["source_head.weight"].equal(torch.ones(3, 6, dtype=torch.float64))
    assert not method.m_s["source_head.weight"].equal(torch.ones(3, 6, dtype=torch.float64))  # it has a hypergradient
    before = model.source_head.weight.detach().clone()
    method.lower_rate = 0.0
    run(method)
    assert model.source_head.weight.equal(before)


@pytest.mark.parametrize("second_order", ["exact", "finite differences"])
def test_source_batches_leave_no_trace_in_buffers(second_order):
    "Running statistics after steps are those of ordinary training on the target batches, to the bit, once a step."
    torch.manual_seed(0)
    models = [TwoHeads(norm=True).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    method = new(models[0], second_order=second_order, lower_rate=0.0, learn_target_mask=False)
    plain = torch.optim.SGD(models[1].parameters(), 0.1)
    for source, target in itertools.islice(batches(), 3):
        source = (source[0] + 100, source[1])
        gates = method.gates()
        method.step(source, target)
        plain.zero_grad()
        with masked(models[1], gates):
            target_loss(models[1], target).backward()
        for name, p in models[1].named_parameters():
            p.grad = p.grad * gates[name] if p.grad is not None and name in gates else p.grad
        plain.step()
    assert models[0].body[1].num_batches_tracked == 3
    same(dict(models[0].named_buffers()), dict(models[1].named_buffers()))


# Without a second derivative


class Cube(torch.autograd.Function):
    "x³, whose derivative hides from automatic differentiation."

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * 3 * ctx.saved_tensors[0] ** 2


def cubed(cube):
    return lambda model, batch: source_loss(lambda x: [cube(out) for out in model(x)], batch)


def margin(model, batch):
    "An operation of PyTorch that has no second derivative."
    return F.multi_margin_loss(model(batch[0])[0], batch[1])


@pytest.mark.parametrize("loss,name", [(cubed(Cube.apply), "Cube"), (margin, "multi_margin_loss")])
def test_fallback_is_named_once(loss, name):
    method = new(losses=(loss, target_loss))
    with pytest.warns(UserWarning, match=f"{name}.*finite differences") as found:
        run(method)
    assert len(found) == 1 and method.second_order == "finite differences"
    chosen = new(losses=(loss, target_loss), second_order="finite differences")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(chosen)
    same(method.m_s, chosen.m_s, rtol=1e-12, atol=1e-14)


def test_finite_differences_agree_with_the_exact_product():
    "Where both can be had: a custom function and the same one without; and p = 3 with Eq. 4."
    custom = new(losses=(cubed(Cube.apply), target_loss), second_order="finite differences")
    exact = new(losses=(cubed(lambda x: x**3), target_loss))
    run(custom), run(exact)
    same(custom.m_s, exact.m_s, rtol=1e-6, atol=1e-8)
    options = {"lower_steps": 3, "lower_mask_rate": 0.3}
    several = [new(**options, second_order=order) for order in ("exact", "finite differences")]
    for method in several:
        run(method)
    same(several[0].m_s, several[1].m_s, rtol=1e-6, atol=1e-8)
    assert not several[0].m_s["body.0.weight"].equal(several[1].m_s["body.0.weight"])


def test_finite_differences_drop_out_the_same_units():
    "And draw no random numbers of their own."
    found = []
    for order in ("exact", "finite differences"):
        torch.manual_seed(0)
        method = new(TwoHeads(dropout=0.5).double(), second_order=order)
        torch.manual_seed(1)
        run(method)
        found.append((method.m_s, torch.rand(3)))
    same(found[0][0], found[1][0], rtol=1e-6, atol=1e-8)
    assert found[0][1].equal(found[1][1])


def test_finite_differences_start_from_the_same_buffers():
    "A network that counts its calls, and does something else each time."
    class Counting(TwoHeads):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.ones(()))

        def forward(self, x):
            self.calls += 1
            return [out / self.calls for out in super().forward(x)]

    found = []
    for order in ("exact", "finite differences"):
        torch.manual_seed(0)
        found.append(new(Counting().double(), second_order=order))
        run(found[-1])
        assert found[-1].model.calls == 1 + 4
    same(found[0].m_s, found[1].m_s, rtol=1e-6, atol=1e-8)


def test_other_errors_of_a_loss_come_through():
    def broken(model, batch):
        raise RuntimeError("this loss is broken")

    with pytest.raises(RuntimeError, match="this loss is broken"):
        run(new(losses=(broken, target_loss)))


def test_a_loss_that_is_linear_in_the_weights():
    "Its gradient has no graph to differentiate; the second term comes from the gate alone."
    def linear(model, batch):
        return sum(p.sum() for p in model.parameters())

    method = new(losses=(linear, target_loss), gamma=0.0)
    reference = Reference(copy.deepcopy(method.model), (linear, target_loss), method.masked, 0.1,
                          **SETTINGS | {"gamma": 0.0})
    source, target = next(batches())
    method.step(source, target)
    reference.step([source], target)
    same(method.m_s, reference.m_s, rtol=1e-11, atol=1e-14)


# In use


def test_no_lower_level_and_no_masks_is_ordinary_training():
    method = new(lower_steps=0, learn_source_mask=False, learn_target_mask=False)
    model = copy.deepcopy(method.model)
    plain = torch.optim.SGD(model.parameters(), 0.1)
    run(method)
    for _, target in itertools.islice(batches(), 4):
        plain.zero_grad()
        target_loss(model, target).backward()
        plain.step()
    same(numbers(method.model), numbers(model))
    assert method.sparsity() == {"both": {"total": 0.0}} and method.gates() == {}


def test_lower_level_when_it_is_due():
    method, due = new(lower_every=3), []
    for source, target in itertools.islice(batches(), 7):
        due.append(method.needs_source)
        method.step(source if method.needs_source else None, target)
    assert due == [True, False, False, True, False, False, True]
    assert not new(lower_steps=0).needs_source


@pytest.mark.parametrize("layout", ["transposed gradients", "channels last"])
def test_gradients_have_the_layout_of_the_weights(layout):
    "Fused optimizers on the CPU read gradients element by element, whatever their strides say."
    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(1, 5, 48))

        def forward(self, x):
            return torch.bmm(x.flatten(1)[None], self.weight.transpose(1, 2))[0]

    torch.manual_seed(0)
    model = nn.Sequential(Stacked())
    if layout == "channels last":
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 5))
        model = model.to(memory_format=torch.channels_last)
    data = [(x.float()[:, :, :4, :4], y) for x, y in pictures()]
    methods = [new(m, losses=(class_loss, class_loss), optimizer=torch.optim.Adam(m.parameters(), 0.01, fused=fused))
               for m, fused in ((copy.deepcopy(model), True), (copy.deepcopy(model), False))]
    for method in methods:
        for _ in range(3):
            method.step(*data)
        assert all(p.grad.stride() == p.stride() for p in method.model.parameters())
    same(numbers(methods[0].model), numbers(methods[1].model), rtol=1e-4, atol=1e-6)


def test_gates_in_between_and_for_good():
    method, x = new(gamma=0.05), next(batches())[1][0]
    run(method, steps=6)
    before = numbers(method.model)
    with method.masked_model() as model:
        between = model(x)[1].detach()
        same({n: p.detach() for n, p in model.named_parameters() if n in method.masked},
             {n: before[n] * g for n, g in method.gates().items()}, rtol=1e-14, atol=0)
        with pytest.raises(ValueError, match="masked_model"):
            run(method)
    same(numbers(method.model), before)
    zeros = method.sparsity()["both"]
    method.finish()
    assert method.model(x)[1].detach().equal(between) and not method.model.body[0].weight.equal(before["body.0.weight"])
    assert 0 < zeros["total"] < 1
    assert (method.model.body[0].weight == 0).double().mean().item() == pytest.approx(zeros["body.0"])
    for again in (method.finish, lambda: run(method), lambda: method.masked_model().__enter__()):
        with pytest.raises(ValueError, match="finished"):
            again()


def test_epsilon_can_decay_for_ever():
    "Gates of zero masks are zero, not 0/0, and steps go on."
    method = new(gamma=0.3)
    run(method, steps=5)
    for _ in range(10_000):
        method.end_epoch()
    losses = run(method)
    assert torch.stack(losses).isfinite().all() and all(t.isfinite().all() for t in method.model.parameters())
    single = new(TwoHeads(), gamma=0.3, epsilon=1e-30)
    assert torch.stack(run(single, dtype=torch.float32)).isfinite().all()
    assert all(t.isfinite().all() for t in [*single.m_s.values(), *single.model.parameters()])


def test_a_compiled_model_is_trained_as_it_was_before():
    "What is compiled has no second derivative; `torch.compile` compiles nothing until it is called."
    compiled, plain = torch.compile(TwoHeads().double()), new()
    compiled.load_state_dict({f"_orig_mod.{name}": t for name, t in numbers(plain.model).items()})
    method = new(compiled)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(method), run(plain)
    same(numbers(compiled._orig_mod), numbers(plain.model))


def test_masks_follow_the_weights():
    "To another precision, as they do to another device."
    method = new()
    method.model.float()
    run(method, dtype=torch.float32)
    assert {mask.dtype for mask in [*method.m_s.values(), *method.m_t.values()]} == {torch.float32}


def test_losses_of_several_networks_at_once():
    "A loss that is no scalar: its sum is minimised, its entries are returned; so two networks are trained as one."
    class Pair(nn.Module):
        def __init__(self, models):
            super().__init__()
            self.models = nn.ModuleList(models)

    def both(loss):
        return lambda pair, batch: torch.stack([loss(model, batch) for model in pair.models])

    torch.manual_seed(1)
    models = [TwoHeads().double() for _ in range(2)]
    together = new(Pair(copy.deepcopy(models)), losses=(both(source_loss), both(target_loss)))
    alone = [new(model) for model in models]
    found, expected = run(together), [run(method) for method in alone]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected, dtype=torch.float64).T, rtol=1e-12, atol=0)
    assert not found[0].requires_grad
    for i, method in enumerate(alone):
        same({n: together.m_s[f"models.{i}.{n}"] for n in method.m_s}, method.m_s, rtol=1e-11, atol=1e-13)


def test_losses_that_are_not_finite_are_returned():
    method = new(losses=(source_loss, lambda model, batch: target_loss(model, batch) * float("nan")))
    assert run(method, steps=1)[0].isnan()


@pytest.mark.parametrize("fall_back", [False, True])
def test_resumes_to_the_bit(fall_back):
    "After a `state_dict` through a file, into objects that are made anew, with a rate that has decayed meanwhile."
    def fresh(states=None):
        torch.manual_seed(0)
        losses = (cubed(Cube.apply) if fall_back else source_loss, target_loss)
        model = TwoHeads(norm=True)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for part, state in zip((model, optimizer, scheduler), states or (), strict=False):
            part.load_state_dict(state)
        method = new(model, optimizer=optimizer, lower_every=2, losses=losses)  # after the rate has come down
        if states:
            method.load_state_dict(states[3])
        return method, scheduler

    def epochs(method, scheduler, which):
        for epoch in which:
            run(method, steps=3, seed=epoch, dtype=torch.float32)
            method.end_epoch()
            scheduler.step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if fall_back else "error")
        whole, first = fresh(), fresh()
        epochs(*whole, range(4))
        epochs(*first, range(2))
        parts = [first[0].model, first[0].optimizer, first[1], first[0]]
        file = io.BytesIO()
        torch.save([part.state_dict() for part in parts], file)
        run(first[0], steps=3, seed=9, dtype=torch.float32)  # goes on, which must not change what was saved
        file.seek(0)
        second = fresh(torch.load(file))
        assert second[0].second_order == whole[0].second_order and second[0].steps == 6
        epochs(*second, range(2, 4))
    same(numbers(second[0].model), numbers(whole[0].model))
    same(second[0].m_s, whole[0].m_s)
    same(second[0].m_t, whole[0].m_t)
    assert second[0].epsilon == whole[0].epsilon


def test_a_state_of_another_model_is_refused():
    method, state = new(), new(TwoHeads(width=7).double()).state_dict()
    with pytest.raises(ValueError, match=r"m_s of the state does not fit this model: body\.0\.weight, body\.4\.weight"):
        method.load_state_dict(state)
    with pytest.raises(ValueError, match="the state has epochs; expected m_s"):
        method.load_state_dict({"epochs": 3})
    with pytest.raises(ValueError, match="m_t of the state"):
        method.load_state_dict(new(learn_target_mask=False).state_dict())


def loop_of(notebook):
    "The code with a user's whole loop in a notebook: a code cell, or a block of Python in a text."
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code" and "BiRPT(" in text and "method.end_epoch()" in text:
            return text
        for block in text.split("```python\n")[1:]:
            if cell["cell_type"] == "markdown" and "BiRPT(" in block:
                return block.split("```")[0]
    return None


LOOP = """
    source_loss = lambda model, batch: F.cross_entropy(model(batch[0])[0], batch[1])
    target_loss = lambda model, batch: F.mse_loss(model(batch[0])[1], batch[1])
    method = BiRPT(model, source_loss, target_loss, optimizer, gamma=1e-4, mask_rate=3.5, lower_rate=1e-3)
    for epoch in range(epochs):
        for batch in target_loader:
            loss = method.step(next(source_batches), batch)
        method.end_epoch()           # ε decays
    method.finish()                  # gates multiplied into the weights; method.sparsity() says where
"""


def statements(code):
    "What it does, without comments and layout."
    return [ast.dump(statement) for statement in ast.parse(code).body]


@pytest.mark.parametrize("where", ["here", "2_method/10_bilevel.ipynb", "index.ipynb"])
def test_a_users_whole_loop(root, where):
    "In the chapter and in the README it is this one, and it works as it stands there."
    code = textwrap.dedent(LOOP).strip()
    if where != "here":
        whole, code = code, loop_of(root / "nbs" / where)
        assert statements(whole) == [s for s in statements(code) if s in statements(whole)]
    torch.manual_seed(0)
    model, pairs = TwoHeads(), batches(dtype=torch.float32)
    targets = [target for _, target in itertools.islice(batches(seed=1, dtype=torch.float32), 4)]
    scope = {"F": F, "BiRPT": BiRPT, "model": model, "optimizer": torch.optim.Adam(model.parameters(), 1e-2),
             "epochs": 20, "target_loader": targets, "source_batches": (source for source, _ in pairs)}
    with torch.no_grad():
        before = target_loss(model, scope["target_loader"][0])
    exec(code, scope)
    assert scope["loss"] < before and scope["method"].epochs == 20 and scope["method"].steps == 80
    zeros = {n: (p == 0).float().mean().item() for n, p in model.named_parameters()}
    assert scope["method"].sparsity()["both"]["body.0"] == pytest.approx(zeros["body.0.weight"])


# Refused by name


REFUSED = {
    "gamma is -1": lambda: new(gamma=-1),
    "gamma is nan": lambda: new(gamma=float("nan")),
    "gamma is '1'": lambda: new(gamma="1"),
    "mask_rate is inf": lambda: new(mask_rate=float("inf")),
    "lower_rate is -0.1": lambda: new(lower_rate=-0.1),
    "lower_mask_rate is -1": lambda: new(lower_mask_rate=-1),
    "lower_steps is -1": lambda: new(lower_steps=-1),
    "lower_steps is 1.0": lambda: new(lower_steps=1.0),
    "lower_every is 0": lambda: new(lower_every=0),
    "lower_every is True": lambda: new(lower_every=True),
    "epsilon is 0": lambda: new(epsilon=0),
    "epsilon is -1": lambda: new(epsilon=-1),
    "epsilon_decay is 0": lambda: new(epsilon_decay=0),
    "epsilon_decay is 1.5": lambda: new(epsilon_decay=1.5),
    "second_order is 'neumann'; expected one of exact, finite differences": lambda: new(second_order="neumann"),
    "target_loss is 3": lambda: new(losses=(source_loss, 3)),
    "model is a function": lambda: BiRPT(class_loss, source_loss, target_loss,
                                         torch.optim.SGD(TwoHeads().parameters(), 0.1), **SETTINGS),
    "model is wrapped in DataParallel": lambda: new(nn.DataParallel(TwoHeads())),
    "no weight gets a mask; `masked` can choose among target_head.weight": lambda: new(masked=lambda name: False),
    "no weight gets a mask; `masked` can choose among none": lambda: new(nn.BatchNorm1d(3)),
    "8 of the optimizer's 8 parameters are not the model's": lambda: new(
        optimizer=torch.optim.SGD(TwoHeads().parameters(), 0.1)),
    "parameters are frozen": lambda: new(TwoHeads().requires_grad_(False)),
    "target_head.weight is torch.bfloat16": lambda: new(TwoHeads().to(torch.bfloat16)),
    "learning rate is 0.0": lambda: new(rate=0.0),
    "LBFGS": lambda: BiRPT(m := TwoHeads(), source_loss, target_loss, torch.optim.LBFGS(m.parameters()), **SETTINGS),
    "source_loss returned 0.5": lambda: run(new(losses=(lambda model, batch: 0.5, target_loss))),
    "target_loss returned": lambda: run(new(losses=(source_loss, lambda model, batch: model(batch[0])))),
    "target_loss does not depend": lambda: run(new(losses=(source_loss, lambda model, batch: batch[0].sum()))),
    "source_loss does not depend": lambda: run(new(
        losses=(lambda model, batch: torch.ones(1, requires_grad=True).sum(), target_loss))),
    "step 0 has no source batch": lambda: new().step(None, next(batches())[1]),
    "step 0 has no lower level": lambda: new(lower_steps=0).step(*next(batches())),
    "was given 2 for its source batches; expected a list of 3": lambda: new(lower_steps=3).step(*next(batches())),
    "gradient of 0.weight is sparse": lambda: new(
        nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Linear(4, 9)), losses=(next_word, next_word),
        lower_steps=0).step(None, torch.randint(9, (3, 5))),
    "was given a Tensor for its source batches": lambda: new(lower_steps=3).step(torch.ones(3), next(batches())[1]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused_by_name(message):
    with pytest.raises(ValueError) as found:
        REFUSED[message]()
    assert message in str(found.value)


def test_a_model_that_has_changed_is_refused():
    method = new()
    method.model.body[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"body\.0\.weight: frozen, thawed or replaced"):
        run(method)
    method = new()
    method.model.target_head = nn.Linear(6, 1).double()
    with pytest.raises(ValueError, match="are not the model's"):
        run(method)


def test_nothing_has_happened_when_a_loss_fails():
    method = new(losses=(source_loss, lambda model, batch: 1))
    before = numbers(method.model)
    with pytest.raises(ValueError, match="target_loss returned 1"):
        run(method)
    same(numbers(method.model), before)
    assert method.steps == 0


# Precision, processes, import


def in_another_process(root, code, folder):
    "A fresh interpreter: it may fork, and `accelerate` has one precision in each process."
    code = f"from tests.test_bilevel import *; from pathlib import Path; folder = Path({str(folder)!r}); {code}"
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def shared_steps(folder):
    "In each of two processes: steps on its share of the batches, in double precision."
    from accelerate import Accelerator
    from torch.utils.data import DataLoader

    accelerator = Accelerator(cpu=True)
    rank, seen = accelerator.process_index, []
    torch.manual_seed(rank)
    model = TwoHeads().double()
    try:
        new(model, accelerator=accelerator)
        raise AssertionError("different weights were not noticed")
    except ValueError as error:
        assert "the processes have different weights" in str(error)
    torch.manual_seed(0)
    model = TwoHeads().double()
    prepared, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))

    def watched(model, batch):
        seen.append(batch[0].clone())
        return source_loss(model, batch)

    method = BiRPT(prepared, watched, target_loss, optimizer, accelerator=accelerator, lower_steps=2,
                   lower_mask_rate=0.3, **SETTINGS)
    pairs = list(itertools.islice(batches(), 5))
    split = {"batch_size": 4, "shuffle": False}
    sources, targets = (accelerator.prepare(DataLoader(
        [(x, y) for pair in pairs for x, y in zip(*pair[i], strict=True)], **split)) for i in range(2))
    sources, losses = iter(list(sources) * 2), []
    for target in targets:
        losses.append(method.step([next(sources), next(sources)], target))
    found = {"model": model.state_dict(), "m_s": method.m_s, "losses": torch.stack(losses), "seen": torch.cat(seen)}
    torch.save(found, folder / f"{rank}.pt")


def test_two_processes_do_what_one_does_with_whole_batches(root, tmp_path):
    "To rounding: every gradient is averaged where it is taken. Each process sees its half of each batch."
    in_another_process(root, "import accelerate; accelerate.debug_launcher(shared_steps, (folder,), 2)", tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for part in ("model", "m_s"):
        same(found[0][part], found[1][part])
    pairs, method, losses = list(itertools.islice(batches(), 5)), new(lower_steps=2, lower_mask_rate=0.3), []
    sources = iter([source for source, _ in pairs] * 2)
    for _, target in pairs:
        losses.append(method.step([next(sources), next(sources)], target))
    same(found[0]["model"], numbers(method.model), rtol=1e-9, atol=1e-11)
    same(found[0]["m_s"], method.m_s, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found[0]["losses"], torch.stack(losses), rtol=1e-9, atol=1e-11)
    halves = [{tuple(row.tolist()) for row in one["seen"]} for one in found]
    assert not halves[0] & halves[1] and len(halves[0] | halves[1]) == 5 * 8


def half_precision(folder):
    "Steps in bfloat16 on a small ViT and on two heads; nothing may fall back."
    from accelerate import Accelerator

    accelerator, kinds = Accelerator(cpu=True, mixed_precision="bf16"), []

    def watched(model, batch):
        outputs = model(batch[0])
        kinds.append(outputs.dtype)
        return F.cross_entropy(outputs.float(), batch[1])

    warnings.simplefilter("error")
    torch.manual_seed(3)
    model, _, data = vit()
    data = [(x.float(), y) for x, y in data]
    single = new(copy.deepcopy(model), losses=(class_loss, class_loss))
    bare = copy.deepcopy(model)  # which nobody has prepared: that the losses are cast is the method's doing
    BiRPT(bare, watched, watched, torch.optim.SGD(bare.parameters(), 0.1), accelerator=accelerator,
          **SETTINGS).step(*data)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), 0.1))
    method = BiRPT(model, watched, watched, optimizer, accelerator=accelerator, **SETTINGS)
    pairs = [[float(m.step(*data)) for _ in range(3)] for m in (method, single)]
    weights = {p.dtype for p in method.model.parameters()} | {m.dtype for m in method.m_s.values()}
    torch.save({"losses": pairs, "kinds": kinds, "weights": weights, "order": method.second_order,
                "masks": [m.m_s["blocks.0.attn.qkv.weight"] for m in (method, single)]}, folder / "half.pt")


def test_mixed_precision(root, tmp_path):
    "Outputs are bfloat16 (a prepared model makes them float32 again), weights and masks float32; numbers are near."
    in_another_process(root, "half_precision(folder)", tmp_path)
    found = torch.load(tmp_path / "half.pt", weights_only=False)
    assert found["weights"] == {torch.float32} and found["order"] == "exact"
    assert found["kinds"] == [torch.bfloat16] * 2 + [torch.float32] * 6
    half, single = found["losses"]
    assert half != single and half == pytest.approx(single, rel=0.05)
    changes = [1 - m for m in found["masks"]]
    assert torch.cosine_similarity(*(c.flatten() for c in changes), dim=0) > 0.98


def test_import_is_light(root):
    "Neither plots, tables nor pictures, and no more than 0.3 s of CPU beyond PyTorch itself."
    code = """if True:
        import sys, time
        import torch
        began = time.process_time()
        import xyield.bilevel
        heavy = {"matplotlib", "pandas", "torchvision", "seaborn", "timm", "accelerate"} & set(sys.modules)
        assert not heavy, heavy
        assert time.process_time() - began < 0.3
    """
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_hypergradient_of_plain_functions_reports_what_the_target_uses():
    "The function behind the class, on a dictionary of tensors."
    found = hypergradient([lambda w: (w["a"] * w["b"]).square().sum()], lambda w: w["a"].square().sum(),
                          {"a": torch.ones(2), "b": torch.full((2,), 2.0)}, {"a": torch.ones(2)}, {}, 0.1, 0.01)
    assert set(found["d_theta_star"]) == {"a"} and set(found["theta_star"]) == {"a", "b"}
    assert not found["theta_star"]["b"].equal(torch.full((2,), 2.0))
