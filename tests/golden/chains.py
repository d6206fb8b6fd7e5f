#!/usr/bin/env python3
"""Record what PyTorch's and optax's optimizers compute, as fixed values for crates/optimizers/named-optimizers/tests/golden.rs.

    pip install numpy torch optax==0.2.8 jax==0.10.2
    python chains.py                      writes chains.json beside this file

(The CPU build of torch is enough: pip install torch --index-url https://download.pytorch.org/whl/cpu)

Everything is computed in float64 by the packages' own code, on one problem, whose gradients do not depend on the parameters.
Numbers are in row-major order.

    shapes       of the tensors
    init         where each tensor starts
    gradients    per step and tensor
    plateau_losses  the losses that a plateau is looked for in
    curvatures   estimates that Sophia is given, in their order
    y            by case: per step and tensor, the parameters
    schedules    by name: the factor of steps 0, 1, 2, ...
    names        of optax's transforms, aliases and schedules, for the table of the book
"""
import functools
import importlib.metadata
import json
import pathlib
import types

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax
import torch

torch.set_default_dtype(torch.float64)

SHAPES = [(5,), (2, 3)]
STEPS = 10

rng = np.random.default_rng(18)
INIT = [np.round(rng.normal(size=s), 2) for s in SHAPES]
MEAN = [rng.normal(size=s) for s in SHAPES]
GRADIENTS = [[np.round(m + 0.5 * rng.normal(size=m.shape), 3) for m in MEAN] for _ in range(STEPS)]


def flat(arrays):
    return [np.asarray(a).ravel().tolist() for a in arrays]


def of_torch(make):
    parameters = [torch.nn.Parameter(torch.tensor(v.copy())) for v in INIT]
    optimizer = make(parameters)
    y = []
    for gradients in GRADIENTS:
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = torch.tensor(gradient.copy())
        optimizer.step()
        y.append(flat([p.detach().numpy().copy() for p in parameters]))
    return y


def of_optax(transform, transposed=False):
    """optax's weights are (in, out) where PyTorch's are (out, in): `transposed` gives matrices that way."""
    turn = (lambda a: jnp.asarray(a).T) if transposed else jnp.asarray
    params = [turn(v) for v in INIT]
    state = transform.init(params)
    y = []
    for gradients in GRADIENTS:
        updates, state = transform.update([turn(g) for g in gradients], state, params)
        params = optax.apply_updates(params, updates)
        y.append(flat([np.asarray(p).T if transposed else p for p in params]))
    return y


def of_loss(transform):
    """With a loss of 2, 1.85, 1.7 and so on."""
    params = [jnp.asarray(v) for v in INIT]
    state = transform.init(params)
    y = []
    for step, gradients in enumerate(GRADIENTS):
        loss = jnp.asarray(2.0 - 0.15 * step)
        updates, state = transform.update([jnp.asarray(g) for g in gradients], state, params, value=loss)
        params = optax.apply_updates(params, updates)
        y.append(flat(params))
    return y


#: Falls, stands still, falls a little, and stands still.
PLATEAU_LOSSES = [3.0, 2.0, 2.0, 1.9999, 2.1, 1.5, 1.6, 1.7, 1.8, 1.9]


def of_plateau(lr, **options):
    """Descent whose rate is reduced on a plateau of the losses above."""
    transform = optax.chain(optax.sgd(lr), optax.contrib.reduce_on_plateau(**options))
    params = [jnp.asarray(v) for v in INIT]
    state = transform.init(params)
    y = []
    for loss, gradients in zip(PLATEAU_LOSSES, GRADIENTS):
        updates, state = transform.update([jnp.asarray(g) for g in gradients], state, params, value=jnp.asarray(loss))
        params = optax.apply_updates(params, updates)
        y.append(flat(params))
    return y


def of_graft(size, direction, lr):
    """The direction of one of optax's transforms, tensor by tensor at the norm of the other's update."""
    params = [jnp.asarray(v) for v in INIT]
    states = [size.init(params), direction.init(params)]
    y = []
    for gradients in GRADIENTS:
        gradients = [jnp.asarray(g) for g in gradients]
        sizes, states[0] = size.update(gradients, states[0], params)
        directions, states[1] = direction.update(gradients, states[1], params)
        norm = jnp.linalg.norm
        grafted = [d * norm(s.ravel()) / norm(d.ravel()) for s, d in zip(sizes, directions)]
        params = [p - lr * u for p, u in zip(params, grafted)]
        y.append(flat(params))
    return y


def of_lookahead(period, alpha, lr):
    """The fast weights, which are the slow ones after every period."""
    transform = optax.lookahead(optax.sgd(lr), period, alpha)
    params = optax.LookaheadParams.init_synced([jnp.asarray(v) for v in INIT])
    state = transform.init(params)
    y = []
    for gradients in GRADIENTS:
        updates, state = transform.update([jnp.asarray(g) for g in gradients], state, params)
        params = optax.apply_updates(params, updates)
        y.append(flat(params.fast))
    return y


def averages_of_torch(decay, lr):
    """The exponential average of the weights of plain descent."""
    model = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(v.copy())) for v in INIT])
    swa = torch.optim.swa_utils
    averaged = swa.AveragedModel(model, multi_avg_fn=swa.get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.SGD(model, lr=lr)
    x = []
    for gradients in GRADIENTS:
        for parameter, gradient in zip(model, gradients):
            parameter.grad = torch.tensor(gradient.copy())
        optimizer.step()
        averaged.update_parameters(model)
        x.append(flat([p.detach().numpy().copy() for p in averaged.module]))
    return x


def averages_of_optax(decay, lr):
    """The debiased one."""
    transform, average = optax.sgd(lr), optax.ema(decay, debias=True)
    params = [jnp.asarray(v) for v in INIT]
    state, mean = transform.init(params), average.init(params)
    x = []
    for gradients in GRADIENTS:
        updates, state = transform.update([jnp.asarray(g) for g in gradients], state, params)
        params = optax.apply_updates(params, updates)
        averaged, mean = average.update(params, mean)
        x.append(flat(averaged))
    return x


#: Estimates of the curvature.
CURVATURES = [[np.round(np.abs(rng.normal(size=s)) * 40.0, 1) for s in SHAPES] for _ in range(STEPS)]


def of_sophia(lr):
    """optax estimates where the count of steps before is a multiple of three, and goes by the estimate in the next step."""

    def estimate(updates, state, params=None, **extra):
        del updates, params, extra
        given = [jnp.asarray(np.stack([c[i] for c in CURVATURES])) for i in range(len(SHAPES))]
        return [g[state] for g in given], state + 1

    curvature = optax.GradientTransformationExtraArgs(lambda params: jnp.zeros([], jnp.int32), estimate)
    return of_optax(
        optax.contrib.sophia(lr, weight_decay=0.01, gamma=0.05, eps=1e-12, update_interval=3, hessian_diagonal_fn=curvature)
    )


t, o = torch.optim, optax


def distance_over_gradients(**options):
    return o.scale_by_distance_over_gradients(param_dtype=jnp.float64, **options)


CASES = {
    "torch_sgd": of_torch(lambda p: t.SGD(p, lr=0.1, momentum=0.9)),
    "torch_sgd_nesterov_decay": of_torch(lambda p: t.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
    "torch_adam": of_torch(lambda p: t.Adam(p, lr=0.1)),
    "torch_adamw": of_torch(lambda p: t.AdamW(p, lr=0.1)),
    "torch_amsgrad": of_torch(lambda p: t.Adam(p, lr=0.1, amsgrad=True)),
    "torch_nadam": of_torch(lambda p: t.NAdam(p, lr=0.1)),
    "torch_radam": of_torch(lambda p: t.RAdam(p, lr=0.1)),
    "torch_adamax": of_torch(lambda p: t.Adamax(p, lr=0.1)),
    "torch_adagrad": of_torch(lambda p: t.Adagrad(p, lr=0.1)),
    "torch_adadelta": of_torch(lambda p: t.Adadelta(p, lr=1.0)),
    "torch_rmsprop": of_torch(lambda p: t.RMSprop(p, lr=0.1)),
    "torch_rmsprop_centred_momentum": of_torch(lambda p: t.RMSprop(p, lr=0.1, centered=True, momentum=0.9)),
    "optax_sophia": of_sophia(0.1),
    "torch_adafactor": of_torch(lambda p: t.Adafactor(p, lr=0.1, weight_decay=0.1)),
    "torch_weight_average": averages_of_torch(0.9, 0.1),
    "optax_weight_average": averages_of_optax(0.9, 0.1),
    "torch_rprop": of_torch(lambda p: t.Rprop(p, lr=0.01)),
    "optax_sgd_nesterov": of_optax(o.sgd(0.1, momentum=0.9, nesterov=True)),
    "optax_adam": of_optax(o.adam(0.1)),
    "optax_adamw_masked": of_optax(o.adamw(0.1, weight_decay=0.01, mask=[False, True])),
    "optax_nadam": of_optax(o.nadam(0.1)),
    "optax_amsgrad": of_optax(o.amsgrad(0.1)),
    "optax_radam": of_optax(o.radam(0.1)),
    "optax_adamax": of_optax(o.adamax(0.1)),
    "optax_adabelief": of_optax(o.adabelief(0.1, eps_root=0.0)),
    "optax_ademamix": of_optax(o.contrib.ademamix(0.1)),
    "optax_adopt": of_optax(o.contrib.adopt(0.1, use_clipping=False)),
    "optax_lion": of_optax(o.lion(0.1)),
    "optax_lamb": of_optax(o.lamb(0.1, weight_decay=0.01)),
    "optax_lars": of_optax(o.lars(0.1, weight_decay=1e-4)),
    "optax_rmsprop": of_optax(o.rmsprop(0.1, decay=0.99, eps_in_sqrt=False)),
    "optax_sign_sgd": of_optax(o.sign_sgd(0.1)),
    "optax_signum": of_optax(o.signum(0.1)),
    "optax_optimistic": of_optax(o.optimistic_gradient_descent(0.1)),
    "optax_ema": of_optax(o.chain(o.ema(0.9), o.scale(-0.1))),
    "optax_clip": of_optax(o.chain(o.clip(0.5), o.scale(-0.1))),
    "optax_clip_by_block_rms": of_optax(o.chain(o.clip_by_block_rms(0.5), o.scale(-0.1))),
    "optax_adaptive_grad_clip": of_optax(o.chain(o.adaptive_grad_clip(0.1), o.scale(-0.1)), transposed=True),
    "optax_centralize": of_optax(o.chain(o.centralize(), o.scale(-0.1))),
    "optax_param_block_rms": of_optax(o.chain(o.scale_by_param_block_rms(), o.scale(-0.1))),
    "optax_param_block_norm": of_optax(o.chain(o.scale_by_param_block_norm(), o.scale(-0.1))),
    "optax_lookahead": of_lookahead(3, 0.5, 0.1),
    "optax_yogi": of_optax(o.chain(o.scale_by_yogi(initial_accumulator_value=1e-12), o.scale(-0.1))),
    "optax_novograd": of_optax(o.novograd(0.1)),
    "optax_novograd_decay": of_optax(o.novograd(0.1, weight_decay=0.1)),
    "optax_distance_over_gradients": of_optax(o.chain(distance_over_gradients(), o.scale(-1.0))),
    "optax_distance_over_gradients_from_afar": of_optax(
        o.chain(distance_over_gradients(reps_rel=0.1, eps=1e-3), o.scale(-1.0))
    ),
    "optax_adafactor": of_optax(o.adafactor(0.1)),
    "optax_adafactor_factored": of_optax(o.adafactor(0.1, min_dim_size_to_factor=1)),
    "optax_polyak_sgd": of_loss(o.polyak_sgd()),
    "optax_polyak_sgd_plus": of_loss(o.polyak_sgd(f_min=1.0, eps=0.5, variant="sps+")),
    "optax_graft": of_graft(o.trace(0.9, nesterov=True), o.scale_by_rss(0.1, 1e-30), 0.1),
    "optax_plateau": of_plateau(0.1, factor=0.5, patience=2),
    "optax_plateau_window": of_plateau(0.1, factor=0.5, patience=1, cooldown=1, accumulation_size=2, rtol=0.2, min_scale=0.3),
    "optax_scheduled": of_optax(o.adamw(o.warmup_cosine_decay_schedule(0.02, 0.1, 4, 9, 0.01), weight_decay=0.01)),
}

SCHEDULES = {
    "linear": o.linear_schedule(1.0, 0.1, 10),
    "polynomial": o.polynomial_schedule(1.0, 0.1, 2.0, 10),
    "cosine": o.cosine_decay_schedule(1.0, 10, alpha=0.1),
    "exponential": o.exponential_decay(1.0, 4, 0.5),
    "stairs": o.exponential_decay(1.0, 4, 0.5, staircase=True),
    "warm_up_cosine": o.warmup_cosine_decay_schedule(0.1, 1.0, 5, 12, 0.2),
    "one_cycle": o.cosine_onecycle_schedule(12, 1.0),
    "joined": o.join_schedules([o.constant_schedule(0.5), o.linear_schedule(1.0, 0.0, 4)], [3]),
}


def public(module, keep):
    return sorted(n for n in dir(module) if not n.startswith("_") and n[0].islower() and keep(n, getattr(module, n)))


def callable_of_optax(name, value):
    return callable(value) and not isinstance(value, types.ModuleType)


def main():
    import optax._src.alias as alias

    of_alias = public(
        alias,
        lambda n, v: isinstance(v, (types.FunctionType, functools.partial))
        and (isinstance(v, functools.partial) or v.__module__ == alias.__name__),
    )
    scales = [n for n in dir(optax) if n.startswith("scale") or n in ("centralize", "normalize_by_update_norm", "apply_every", "set_to_zero", "identity", "stateless", "lookahead")]
    out = {
        "versions": {p: importlib.metadata.version(p) for p in ("numpy", "torch", "optax", "jax")},
        "shapes": [list(s) for s in SHAPES],
        "init": flat(INIT),
        "gradients": [flat(g) for g in GRADIENTS],
        "plateau_losses": PLATEAU_LOSSES,
        "curvatures": [flat(c) for c in CURVATURES],
        "y": CASES,
        "schedules": {name: [float(s(step)) for step in range(16)] for name, s in SCHEDULES.items()},
        "names": {
            "aliases": of_alias,
            "transforms": sorted(set(public(optax.transforms, callable_of_optax)) | set(scales)),
            "schedules": [n for n in public(optax.schedules, callable_of_optax)],
        },
    }
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
