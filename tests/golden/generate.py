#!/usr/bin/env python3
"""Record trajectories of the Python reference as conformance cases.

    pip install "prodigy-plus-schedule-free==1.9.2" torch numpy safetensors
    python generate.py cases                              the cases that ship with the project
    python generate.py cases_v2                           those of the second line, with prodigy-plus-schedule-free==2.0.1 installed
    python generate.py --random 200 --seed 1 OUT_DIR      as many random mixes of options, shapes and groups

(The CPU build of torch is enough: pip install torch --index-url https://download.pytorch.org/whl/cpu)

A case is one safetensors file. Parameters are numbered from 0, steps from 1.

    init/<i>        where parameter i starts
    grad/<t>/<i>    bfloat16: the gradient of parameter i at step t; absent if it has none at that step
    y/<t>/<i>       parameter i after step t in training mode, at the saved steps
    x/<t>/<i>       the same in evaluation mode; the optimizer is put back as it was
    back/<t>/<i>    at the steps in eval_at: parameter i after eval() and train(); the run goes on from there
    d/<t>           float64, one per group: Prodigy's d after step t

Its metadata has one entry, "case", a JSON object:

    name, reference (version), shapes, steps, saved (steps), dtype (of the parameters)
    options     the constructor's options that differ from their defaults
    groups      [{"params": [i, ...], option: value, ...}]
    lr          null, or a factor per step; a group's learning rate is then factor * (the group's own lr, or 1)
    missing     {step: [i, ...]}: who has no gradient
    eval_at     null, or the steps after which the reference is switched to evaluation and back
    rounding    "nearest": bfloat16 parameters are rounded to nearest, so that a case can be replayed
    muon_dtype  the type in which Muon iterates; the reference's is "bfloat16", where sums in another order may round
                differently, so most cases iterate in "float32"
    wobble      [displacement, d]: how far the reference itself moves, relatively, if every gradient is off by 1e-7

Gradients are those of a bumpy loss at the parameters' own position plus noise, so d grows as it does in training. A case
that is not finite, or that wobbles by more than 1e-2 (in bfloat16: if gradients are off by 1e-3, beyond rounding), says nothing
about who replays it and is not written.
"""
import argparse
import contextlib
import dataclasses
import importlib.metadata
import io
import json
import math
import pathlib
import random

import torch
from prodigyplus.core_optimiser import CoreOptimiser
from prodigyplus.prodigy_plus_schedulefree import ProdigyPlusScheduleFree
from safetensors.torch import save_file

CHAOTIC = 1e-2
VERSION = importlib.metadata.version("prodigy-plus-schedule-free")
SECOND_LINE = VERSION.startswith("2.")  # has no Muon
NEWTON_SCHULZ = {"bfloat16": getattr(CoreOptimiser, "newton_schulz_", None)}


@dataclasses.dataclass
class Case:
    name: str
    shapes: list
    options: dict = dataclasses.field(default_factory=dict)
    groups: list = None
    steps: int = 16
    saved: list = None
    seed: int = 0
    dtype: str = "float32"
    lr: list = None
    missing: dict = dataclasses.field(default_factory=dict)
    eval_at: list = None
    muon_dtype: str = "float32"
    zero: tuple = ()  # parameters that start at zero

    def __post_init__(self):
        self.groups = self.groups or [{"params": list(range(len(self.shapes)))}]
        self.saved = self.saved or sorted({1, 4, self.steps // 2, self.steps})

    def description(self, wobble):
        kept = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("seed", "zero")}
        return kept | {"reference": VERSION, "rounding": "nearest", "wobble": wobble}


class Problem:
    """A loss per parameter, sum of log cosh(a (w - w*)) / a plus noise, and where to start on it."""

    def __init__(self, case):
        self.random = torch.Generator().manual_seed(case.seed)
        self.size = 0.02 + 0.1 * torch.rand((), generator=self.random).item()
        self.init, self.goal, self.sharpness = [], [], []
        for i, shape in enumerate(case.shapes):
            self.init.append(self.normal(shape) * (0.0 if i in case.zero else 0.08))
            self.goal.append(self.normal(shape) * 0.25)
            self.sharpness.append(0.5 + 3 * torch.rand(shape, generator=self.random))

    def normal(self, shape):
        return torch.randn(shape, generator=self.random)

    def gradient(self, i, w):
        slope = torch.tanh(self.sharpness[i] * (w.float() - self.goal[i]))
        return (self.size * (slope + 0.25 * self.normal(w.shape))).to(torch.bfloat16)


class Run:
    """The reference on a case's parameters."""

    def __init__(self, case, init):
        self.case = case
        self.params = [torch.nn.Parameter(w.to(getattr(torch, case.dtype)).clone()) for w in init]
        groups = [g | {"params": [self.params[i] for i in g["params"]]} for g in case.groups]
        CoreOptimiser.copy_stochastic_ = lambda self, target, source: target.copy_(source)
        CoreOptimiser.newton_schulz_ = NEWTON_SCHULZ[case.muon_dtype]
        with contextlib.redirect_stdout(io.StringIO()):  # It announces every option that it resolves.
            self.optimizer = ProdigyPlusScheduleFree(groups, **case.options)
        self.optimizer.train()

    def step(self, t, gradients):
        if self.case.lr:
            for group, given in zip(self.optimizer.param_groups, self.case.groups):
                group["lr"] = self.case.lr[t - 1] * given.get("lr", 1.0)
        for p, g in zip(self.params, gradients):
            p.grad = None if g is None else g.to(p.dtype)
        with contextlib.redirect_stdout(io.StringIO()):
            self.optimizer.step()

    def values(self):
        return [p.detach().clone() for p in self.params]

    def d(self):
        return torch.tensor([g["d"] for g in self.optimizer.param_groups], dtype=torch.float64)

    def evaluated(self):
        """The parameters in evaluation mode; the optimizer stays in training mode, as if nothing had happened."""
        before = self.values()
        self.optimizer.eval()
        x = self.values()
        with torch.no_grad():
            for p, w in zip(self.params, before):
                p.copy_(w)
        for group in self.optimizer.param_groups:
            group["train_mode"] = True
        return x

    def switch(self):
        self.optimizer.eval()
        self.optimizer.train()


def float32_newton_schulz(self, G, steps=6, eps=1e-7):
    """The reference's iteration, in float32 throughout."""
    a, b, c = 3.4445, -4.7750, 2.0315
    matrix = G.view(G.size(0), -1)
    tall = matrix.size(0) > matrix.size(1)
    X = matrix.T.clone() if tall else matrix.clone()
    X = X / X.norm().add(eps)
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    X = X.T if tall else X
    matrix.copy_(torch.einsum("ij,ij->", matrix, X).clamp(-1.0, 1.0) * X)
    return matrix.view(G.shape)


NEWTON_SCHULZ["float32"] = float32_newton_schulz


def record(case):
    """The tensors of a case."""
    problem = Problem(case)
    run = Run(case, problem.init)
    tensors = {}

    def keep(prefix, values):
        tensors.update({f"{prefix}/{i}": v.contiguous() for i, v in enumerate(values) if v is not None})

    keep("init", run.values())
    for t in range(1, case.steps + 1):
        gradients = [problem.gradient(i, w) for i, w in enumerate(run.values())]
        for i in case.missing.get(t, []):
            gradients[i] = None
        keep(f"grad/{t}", gradients)
        run.step(t, gradients)
        tensors[f"d/{t}"] = run.d()
        if t in case.saved:
            keep(f"y/{t}", run.values())
            keep(f"x/{t}", run.evaluated())
        if case.eval_at and t in case.eval_at:
            run.switch()
            keep(f"back/{t}", run.values())
    return tensors


def wobble(case, tensors, off_by=1e-7, forgiven=0.0):
    """How far the reference moves, in displacement and in d, if every gradient is off by a little.

    The share `forgiven` of a parameter's own norm is not counted, as in the rule by which a replay agrees.
    """
    noise = torch.Generator().manual_seed(4711)

    def nudged(g):
        return g.float() * (1 + off_by * torch.randn(g.shape, generator=noise))

    count = range(len(case.shapes))
    run = Run(case, [tensors[f"init/{i}"] for i in count])
    displacement = d = 0.0
    for t in range(1, case.steps + 1):
        recorded = [tensors.get(f"grad/{t}/{i}") for i in count]
        run.step(t, [None if g is None else nudged(g) for g in recorded])
        d = max(d, (run.d() / tensors[f"d/{t}"] - 1).abs().max().item())
        if t in case.saved:
            for i, w in enumerate(run.values()):
                y, init = tensors[f"y/{t}/{i}"].float(), tensors[f"init/{i}"].float()
                moved, off = (y - init).norm().item(), (w.float() - y).norm().item()
                off = max(0.0, off - forgiven * y.norm().item())
                displacement = max(displacement, off / moved if moved else 0.0)
        if case.eval_at and t in case.eval_at:
            run.switch()
    return [displacement, d]


def write(case, folder):
    """Writes a case, unless it is not worth replaying; says which."""
    tensors = record(case)
    moves = wobble(case, tensors)
    worst = max(moves)
    if case.dtype == "bfloat16":
        # Rounding swallows 1e-7 whole; 1e-3 changes the last digit of a gradient here and there.
        worst = max(worst, *wobble(case, tensors, 1e-3, 4 * 2**-9))
    if not all(v.isfinite().all() for v in tensors.values()) or not worst <= CHAOTIC:
        print(f"{case.name:28} not written: wobble {worst:.0e}")
        return False
    save_file(tensors, folder / f"{case.name}.safetensors", metadata={"case": json.dumps(case.description(moves))})
    d = " ".join(f"{v:.1e}" for v in tensors[f"d/{case.steps}"].tolist())
    print(f"{case.name:28} d {d}  wobble {moves[0]:.0e} {moves[1]:.0e}")
    return True


def shipped():
    """Every option at least once, and mixes of those that meet in the same formula."""
    net = [(34, 9), (12, 32), (9,), (2, 3, 3, 3)]  # factored tall and wide, dense, convolution
    two = [{"params": [0, 2]}, {"params": [1, 3], "lr": 0.4, "weight_decay": 0.03}]
    warmup = [min(1.0, t / 6) * 0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(1, 17)]

    def case(name, shapes=net, groups=None, zero=(), dtype="float32", **rest):
        steering = {k: rest.pop(k) for k in ("lr_factors", "missing", "eval_at", "muon_dtype", "steps") if k in rest}
        if "lr_factors" in steering:
            steering["lr"] = steering.pop("lr_factors")
        return Case(name, shapes, rest, groups, zero=zero, dtype=dtype, seed=sum(map(ord, name)), **steering)

    return [
        case("defaults"),
        case("dense_slow_moments", factored=False, betas=[0.95, 0.999], beta3=0.9),
        case("ranks", [(), (1,), (1, 32), (33, 1, 4), (3, 32, 2, 2), (40,)]),
        case("atan2_decay", eps=None, weight_decay=0.05),
        case("large_eps_unclipped", eps=1e-4, use_stableadamw=False, d_coef=0.5),
        case("adopt_late", use_adopt=True, missing={1: [2], 2: [2], 5: [0]}, zero=(3,)),
        case("cautious_decay", use_cautious=True, weight_decay=2e-3, weight_decay_by_lr=False),
        case("grams_orthograd", use_grams=True, use_orthograd=True),
        case("focus_speed", use_focus=True, use_speed=True, weight_decay=0.02, d0=1e-4),
        case("speed_adopt_cautious", use_speed=True, use_adopt=True, use_cautious=True, d0=1e-5),
        case("muon", use_muon_pp=True),
        case("muon_speed_bf16_iterations", use_muon_pp=True, use_speed=True, muon_dtype="bfloat16"),
        case("bias_correction_decay", use_bias_correction=True, weight_decay=1e-3, weight_decay_by_lr=False),
        case("bias_correction_adopt", use_bias_correction=True, use_adopt=True, betas=[0.9, 0.9], d0=1e-4),
        case("frozen_at_8", prodigy_steps=8, lr=0.7),
        case("schedule_two_groups", groups=two, lr_factors=warmup),
        case("frozen_at_first", groups=two, split_groups_mean=False, lr_factors=[0.0] * 6 + [1.0] * 10, d0=1e-4),
        case("groups_each", groups=two, split_groups_mean=False, missing={6: [1], 7: [3]}),
        case("groups_joint", groups=two, split_groups=False, d_coef=2.0),
        case("groups_of_their_own", groups=[
            {"params": [3], "use_speed": True, "d0": 1e-5, "factored": False},
            {"params": [0], "use_orthograd": True, "betas": [0.8, 0.95], "eps": None},
            {"params": [1, 2], "use_muon_pp": True, "use_grams": True, "prodigy_steps": 9},
        ]),
        case("evaluation_between", eval_at=[4, 8], weight_decay=0.1, zero=(2,)),
        case("bf16", dtype="bfloat16", d0=1e-4, eval_at=[8]),
        case("bf16_narrow", dtype="bfloat16", d0=1e-4, factored_fp32=False, weight_decay=0.05),
        case("bf16_dense_unrounded", dtype="bfloat16", d0=1e-4, factored=False, stochastic_rounding=False),
    ]


def shipped_of_second_line():
    """Both modes with every option at least once, and mixes of those that meet in the same formula."""
    net = [(34, 9), (12, 32), (9,), (2, 3, 3, 3)]
    two = [{"params": [0, 2]}, {"params": [1, 3], "lr": 0.4, "weight_decay": 0.03}]
    cosine = [min(1.0, t / 6) * 0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(1, 17)]

    def case(name, groups=None, zero=(), dtype="float32", **rest):
        steering = {k: rest.pop(k) for k in ("missing", "eval_at", "steps") if k in rest}
        if "lr_factors" in rest:
            steering["lr"] = rest.pop("lr_factors")
        return Case(name, net, rest, groups, zero=zero, dtype=dtype, seed=sum(map(ord, name)), **steering)

    return [
        case("v2_defaults"),
        case("v2_refined_missing", schedulefree_c=8.0, d0=3e-5, missing={3: [0], 7: [1, 2], 11: [3]}),
        case("v2_unlimited_dense_atan2", d_limiter=False, factored=False, eps=None, beta3=0.8),
        case("v2_speed_cautious", use_speed=True, use_cautious=True, d0=1e-4, d_coef=2.0),
        case("v2_adopt_grams_orthograd", use_adopt=True, use_grams=True, use_orthograd=True, d0=3e-5),
        case("v2_focus_decay", use_focus=True, weight_decay=1e-3, weight_decay_by_lr=False, d0=3e-5),
        case("v2_prodigy_schedule", use_schedulefree=False, d0=3e-5, lr_factors=cosine, weight_decay=0.05),
        case("v2_prodigy_adopt_cautious", use_schedulefree=False, use_adopt=True, use_cautious=True, d0=3e-5),
        case("v2_prodigy_grams_speed", use_schedulefree=False, use_grams=True, use_speed=True, d0=1e-4),
        case("v2_frozen_at_first", groups=two, lr_factors=[0.0] * 6 + [1.0] * 10, d0=3e-5),
        case("v2_groups_mean", groups=two, split_groups_mean=True, d0=3e-5, zero=(1,), missing={6: [1], 7: [3]}),
        case("v2_groups_joint", groups=two, split_groups=False, d0=3e-5, prodigy_steps=12),
        case("v2_bf16", dtype="bfloat16", d0=1e-4, eval_at=[8], factored_fp32=False),
    ]


def random_case(name, dice):
    """Any mix of options on any mix of shapes."""
    def maybe(share):
        return dice.random() < share

    def some_options(group):
        rare = 0.12 if group else 0.25
        menu = {
            "weight_decay": lambda: dice.choice([0.1, 0.01, 0.003]), "d_coef": lambda: dice.choice([0.5, 2.0, 1.3]),
            "weight_decay_by_lr": lambda: maybe(0.5), "beta3": lambda: dice.choice([0.7, 0.9, 0.98]),
            "betas": lambda: dice.choice([[0.95, 0.999], [0.8, 0.95], [0.5, 0.99], [0.9, 0.9]]),
            "d0": lambda: dice.choice([1e-5, 1e-4, 1e-3]), "prodigy_steps": lambda: dice.randint(2, 15),
            "eps": lambda: dice.choice([None, 1e-6, 1e-4]), "lr": lambda: dice.choice([0.3, 0.8, 1.5]),
            "factored": lambda: maybe(0.3), "use_stableadamw": lambda: maybe(0.2), "factored_fp32": lambda: False,
        } | {f"use_{o}": lambda: True for o in (
            "bias_correction", "speed", "cautious", "grams", "adopt", "orthograd", "focus")}
        if SECOND_LINE:
            menu |= {"use_schedulefree": lambda: False, "d_limiter": lambda: False,
                     "schedulefree_c": lambda: dice.choice([3.0, 8.0, 60.0])}
        else:
            menu |= {"use_muon_pp": lambda: True}
        chosen = {option: value() for option, value in menu.items() if maybe(rare)}
        if not chosen.get("weight_decay_by_lr", True) and "weight_decay" in chosen:
            chosen["weight_decay"] /= 50
        return chosen

    def shape():
        kind = dice.random()
        if kind < 0.12:
            return (dice.randint(1, 4), dice.randint(1, 4)) + (dice.choice([1, 3]),) * 2
        lengths = [1, 1, 2, 3, 5, 8, 13, 30, 31, 32, 33, 34, 47, 64]
        while True:
            s = tuple(dice.choice(lengths) for _ in range(dice.randint(0, 4)))
            if math.prod(s) <= 2500:
                return s

    shapes = [shape() for _ in range(dice.randint(1, 6))]
    options, order = some_options(False), dice.sample(range(len(shapes)), len(shapes))
    groups = None
    if len(shapes) > 1 and maybe(0.5):
        cuts = sorted(dice.sample(range(1, len(shapes)), dice.randint(1, min(3, len(shapes) - 1))))
        parts = [order[a:b] for a, b in zip([0] + cuts, cuts + [len(shapes)])]
        groups = [{"params": part} | some_options(True) for part in parts]
        options |= dice.choice([{}, {}, {"split_groups": False}, {"split_groups_mean": SECOND_LINE}])
        if not options.get("split_groups", True):
            # One estimate of two estimators' sums means nothing.
            for group in groups:
                group.pop("use_speed", None)
    steps = dice.randint(8, 24)
    missing = {}
    if maybe(0.35):
        for t in range(1, steps + 1):
            absent = [i for i in range(len(shapes)) if maybe(0.12)]
            if absent:
                missing[t] = absent
    if maybe(0.15):
        late, joins = dice.randrange(len(shapes)), dice.randint(2, steps)
        missing |= {t: sorted({late, *missing.get(t, [])}) for t in range(1, joins)}
    dtype = "bfloat16" if maybe(0.15) else "float32"
    if dtype == "bfloat16":
        options |= {"d0": options.get("d0", 1e-4)} | ({"stochastic_rounding": False} if maybe(0.3) else {})
    if any(math.prod(s) == 1 for s in shapes):
        # The reference blows the rounding noise of a one-element tensor up to a gradient.
        for given in [options] + (groups or []):
            given.pop("use_orthograd", None)
    case = Case(name, shapes, options, groups, steps, seed=dice.randrange(10**9), dtype=dtype, missing=missing)
    if maybe(0.25):
        case.lr = [round(dice.uniform(0.2, 1.2), 3) for _ in range(steps)]
    if maybe(0.2):
        case.eval_at = sorted(dice.sample(case.saved, dice.randint(1, 2)))
    if maybe(0.2):
        case.zero = tuple(i for i in range(len(shapes)) if maybe(0.4))
    if maybe(0.15) and not SECOND_LINE:
        case.muon_dtype = "bfloat16"
    return case


def main():
    usage = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    usage.add_argument("--random", type=int, metavar="N", help="N random mixes instead of the shipped cases")
    usage.add_argument("--seed", type=int, default=0, help="which random mixes")
    usage.add_argument("folder", type=pathlib.Path, metavar="OUT_DIR")
    arguments = usage.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if arguments.random is None:
        for case in shipped_of_second_line() if SECOND_LINE else shipped():
            write(case, arguments.folder)
        return
    dice, written, tried = random.Random(arguments.seed), 0, 0
    while written < arguments.random:
        tried += 1
        written += write(random_case(f"random_{arguments.seed}_{tried:03}", dice), arguments.folder)


if __name__ == "__main__":
    main()
