#!/usr/bin/env python3
"""Record what papers' authors and peers compute, as fixed values for tests/literature.rs.

    pip install numpy torch optax==0.2.8 jax==0.10.2 schedulefree==1.4.1 prodigyopt==1.1.2 adam-atan2-pytorch==0.4.1
    python literature.py                  writes literature.json beside this file

(The CPU build of torch is enough: pip install torch --index-url https://download.pytorch.org/whl/cpu)

Everything is computed in float64 by the packages' own code, with gradients that do not depend on the parameters. Numbers are
in row-major order. A "trajectory" has

    shapes      of the tensors
    init        where each tensor starts
    gradients   per step and tensor
    y, x        per step and tensor: the parameters in training mode, and at the evaluation point where there is one

and whatever else a section says. Which settings make the mathematics coincide with this project's is said with each section here,
and in tests/literature.rs.
"""
import importlib.metadata
import json
import pathlib

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax
import torch
from adam_atan2_pytorch.adam_atan2 import AdamAtan2
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree, RAdamScheduleFree, SGDScheduleFree

torch.set_default_dtype(torch.float64)


def problem(seed, shapes, steps):
    """Starts and gradients; every element's gradient has a mean of its own, so that a distance is to be covered."""
    rng = np.random.default_rng(seed)
    # Few decimals keep the file short; they are the values themselves, not rounded copies.
    init = [np.round(rng.normal(size=s), 2) for s in shapes]
    mean = [rng.normal(size=s) for s in shapes]
    gradients = [[np.round(m + 0.5 * rng.normal(size=m.shape), 3) for m in mean] for _ in range(steps)]
    return init, gradients


def flat(arrays):
    return [np.asarray(a).ravel().tolist() for a in arrays]


def describe(shapes, init, gradients, **more):
    return {
        "shapes": [list(s) for s in shapes],
        "init": flat(init),
        "gradients": [flat(g) for g in gradients],
        **more,
    }


def steps_of(optimizer, parameters, gradients, observe):
    for g in gradients:
        for parameter, value in zip(parameters, g):
            # A copy, as these optimizers change the gradient.
            parameter.grad = torch.tensor(value.copy())
        optimizer.step()
        observe()


def parameters_of(init):
    return [torch.nn.Parameter(torch.tensor(v.copy())) for v in init]


def values(parameters):
    return flat([p.detach().numpy().copy() for p in parameters])


FACTORED = [(33, 3), (3, 33), (2, 33, 4)]


def factored_optax():
    """optax's factored RMS with a constant decay. Its epsilon is added to squared gradients, so it is made too small to act."""
    beta2 = 0.9
    init, gradients = problem(1, FACTORED, 3)
    transform = optax.scale_by_factored_rms(
        decay_rate=beta2, min_dim_size_to_factor=2, epsilon=1e-300, decay_rate_fn=lambda step, decay: decay
    )
    params = [jnp.asarray(p) for p in init]
    state = transform.init(params)
    updates = []
    for g in gradients:
        u, state = transform.update([jnp.asarray(v) for v in g], state, params)
        updates.append(flat(u))
    return describe(FACTORED, init, gradients, beta2=beta2, updates=updates)


def factored_adafactor():
    """PyTorch's Adafactor, for matrices: its decay at step t is 1 - t^-0.8. It multiplies the direction by
    max(eps2, RMS(parameter)) min(lr, 1/sqrt(t)), which is divided out again, and clips its RMS at d, which is made too large to act."""
    shapes = FACTORED[:2]
    init, gradients = problem(2, shapes, 4)
    parameters = parameters_of(init)
    lr = 1e-3
    optimizer = torch.optim.Adafactor(
        parameters, lr=lr, beta2_decay=-0.8, eps=(1e-30, 1e-3), d=1e300, weight_decay=0.0, foreach=False
    )
    updates = []
    for g in gradients:
        before = [p.detach().clone() for p in parameters]
        # Displacements are taken from parameters that are put back, so that they lose no digits to the parameters' size.
        steps_of(optimizer, parameters, [g], lambda: None)
        alphas = [max(1e-3, b.norm().item() / b.numel() ** 0.5) * lr for b in before]
        updates.append(flat([((b - p) / a).detach().numpy() for b, p, a in zip(before, parameters, alphas)]))
        with torch.no_grad():
            for b, p in zip(before, parameters):
                p.copy_(b)
    return describe(shapes, init, gradients, beta2_decay=-0.8, updates=updates)


def adam_atan2(a, b):
    """adam-atan2-pytorch without a first moment (beta1 = 0). It debiases the second moment."""
    lr, beta2 = 0.1, 0.9
    shapes = [(5,), (2, 3)]
    init, gradients = problem(3, shapes, 4)
    # From 1e-4 to 1e4, as there is no epsilon that a gradient could be small against.
    gradients = [[np.round(g * 10.0 ** (2 * t - 4), 7) for g in gs] for t, gs in enumerate(gradients)]
    parameters = parameters_of(init)
    optimizer = AdamAtan2(parameters, lr=lr, betas=(0.0, beta2), a=a, b=b)
    y = []
    steps_of(optimizer, parameters, gradients, lambda: y.append(values(parameters)))
    return describe(shapes, init, gradients, lr=lr, beta2=beta2, a=a, b=b, y=y)


def schedule_free(make, warmup=0, steps=8, **settings):
    shapes = [(4,), (2, 3)]
    init, gradients = problem(4, shapes, steps)
    parameters = parameters_of(init)
    optimizer = make(parameters, settings, warmup)
    optimizer.train()
    y, x = [], []

    def observe():
        y.append(values(parameters))
        kept = [p.detach().clone() for p in parameters]
        optimizer.eval()
        x.append(values(parameters))
        optimizer.train()
        with torch.no_grad():
            for p, k in zip(parameters, kept):
                p.copy_(k)

    steps_of(optimizer, parameters, gradients, observe)
    return describe(shapes, init, gradients, warmup=warmup, **settings, y=y, x=x)


def sgd_schedule_free():
    """r = 0 and weight_lr_power = 2 are the averaging of this project; its weight is the square of the largest learning rate
    so far, so the learning rate must not fall. Weight decay is taken at y."""
    return schedule_free(
        lambda p, s, warmup: SGDScheduleFree(
            p, lr=s["lr"], momentum=s["beta1"], weight_decay=s["weight_decay"], warmup_steps=warmup, r=0.0,
            weight_lr_power=2.0, foreach=False),
        warmup=3, lr=0.1, beta1=0.9, weight_decay=0.05,
    )  # fmt: skip


def adamw_schedule_free():
    """As above. The second moment is debiased."""
    return schedule_free(
        lambda p, s, warmup: AdamWScheduleFree(
            p, lr=s["lr"], betas=(s["beta1"], s["beta2"]), eps=s["eps"], weight_decay=s["weight_decay"],
            warmup_steps=warmup, r=0.0, weight_lr_power=2.0, foreach=False),
        warmup=3, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.05,
    )  # fmt: skip


def radam_schedule_free():
    """As above, with a rectifier of 0 rather than 1 while the variance is intractable (silent_sgd_phase)."""
    return schedule_free(
        lambda p, s, warmup: RAdamScheduleFree(
            p, lr=s["lr"], betas=(s["beta1"], s["beta2"]), eps=s["eps"], weight_decay=s["weight_decay"],
            r=0.0, weight_lr_power=2.0, silent_sgd_phase=True, foreach=False),
        steps=10, lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.05,
    )  # fmt: skip


def prodigy(lr, d0, steps, stop_after=None):
    """prodigyopt without a first moment, on every element (slice_p = 1), with an epsilon too small to act.

    beta1 is 1e-300 rather than 0: at 0, prodigyopt divides the gradient times this step's new d by a second moment on the scale
    of the old one, which no other beta1 does.

    `numerator` and `denominator` are d_numerator and d_denom after each step. With `stop_after`, growth_rate is 1 from that step
    on, so that d stands still."""
    beta2 = 0.9
    shapes = [(5,), (2, 3)]
    init, gradients = problem(5, shapes, steps)
    parameters = parameters_of(init)
    optimizer = Prodigy(parameters, lr=lr, betas=(1e-300, beta2), eps=1e-300, d0=d0, slice_p=1)
    group = optimizer.param_groups[0]
    y, d, numerator, denominator = [], [], [], []

    def observe():
        y.append(values(parameters))
        d.append(group["d"])
        numerator.append(group["d_numerator"])
        denominator.append(group["d_denom"])
        if len(y) == stop_after:
            group["growth_rate"] = 1.0

    steps_of(optimizer, parameters, gradients, observe)
    return describe(
        shapes, init, gradients, lr=lr, d0=d0, beta2=beta2, y=y, d=d, numerator=numerator, denominator=denominator
    )


# Jordan et al., "Muon: An optimizer for hidden layers in neural networks", zeropower_via_newtonschulz5: as published,
# but in float64 where that rounds to bfloat16.
def zeropower_via_newtonschulz5(G, steps=5, eps=1e-7):
    a, b, c = (3.4445, -4.7750, 2.0315)
    X = G / (G.norm() + eps)
    if G.size(0) > G.size(1):
        X = X.T
    for _ in range(steps):
        A = X @ X.T
        B = b * A + c * A @ A
        X = a * X + B @ X
    if G.size(0) > G.size(1):
        X = X.T
    return X


def muon():
    """Six iterations, the number that is used here. `condition` is what the singular values span."""
    rng = np.random.default_rng(6)
    cases = []
    for rows, cols, condition in [(6, 6, 3.0), (9, 4, 30.0), (4, 9, 30.0), (1, 7, 1.0), (7, 1, 1.0), (6, 5, 1e5)]:
        n = min(rows, cols)
        left, _ = np.linalg.qr(rng.normal(size=(rows, n)))
        right, _ = np.linalg.qr(rng.normal(size=(cols, n)))
        singular = 5.0 * np.geomspace(1.0, 1.0 / condition, n)
        given = left @ np.diag(singular) @ right.T
        result = zeropower_via_newtonschulz5(torch.tensor(given), steps=6).numpy()
        cases.append({
            "rows": rows,
            "cols": cols,
            "given": given.ravel().tolist(),
            "orthogonalised": result.ravel().tolist(),
            "singular_given": np.linalg.svd(given)[1].tolist(),
            "singular_orthogonalised": np.linalg.svd(result)[1].tolist(),
        })
    return cases


def main():
    packages = ["torch", "optax", "jax", "schedulefree", "prodigyopt", "adam-atan2-pytorch"]
    golden = {
        "versions": {p: importlib.metadata.version(p) for p in packages},
        "factored_optax": factored_optax(),
        "factored_adafactor": factored_adafactor(),
        "adam_atan2": adam_atan2(a=1.0, b=1.0),
        "adam_atan2_of_50": adam_atan2(a=50.0, b=50.0),
        "sgd_schedule_free": sgd_schedule_free(),
        "adamw_schedule_free": adamw_schedule_free(),
        "radam_schedule_free": radam_schedule_free(),
        "prodigy_standing": prodigy(lr=1e-3, d0=1e-2, steps=8),
        "prodigy_moving": prodigy(lr=1.0, d0=1e-6, steps=5),
        "prodigy_stopped": prodigy(lr=1.0, d0=1e-6, steps=6, stop_after=2),
        "muon": muon(),
    }
    path = pathlib.Path(__file__).with_name("literature.json")
    # One line per array of numbers.
    text = json.dumps(golden, separators=(",", ":")).replace('],"', '],\n"').replace('},"', '},\n"')
    path.write_text(text + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
