#!/usr/bin/env python3
"""Record what PyTorch's Muon computes, as fixed values for crates/transforms/muon-pp/tests/golden.rs.

    pip install numpy torch
    python muon.py                        writes muon.json beside this file

(The CPU build of torch 2.15 is enough: pip install torch --index-url https://download.pytorch.org/whl/cpu)

PyTorch's iterations are in bfloat16, whatever the parameters are. So that rounding doesn't hide anything, its own code runs here with
that one type replaced by float64, but for the cases that say `shipped`.

    matrices     what PyTorch's iterations make of a matrix: in float64, in float32, and in bfloat16, as they are shipped
    exact        what the polynomials make of a matrix by its singular values: the Polar Express's after 5 to 8 iterations
    shapes, init, gradients
                 of the trajectories: by tensor, and by step and tensor
    y            by case: per step and tensor, the parameters
    neurons      the same by NorMuon's formula (2510.05491, and its authors' code), in numpy, with a learning rate of 0.1

Numbers are in row-major order.
"""
import importlib.metadata
import inspect
import json
import pathlib

import numpy as np
import torch
from torch.optim import _muon

torch.set_default_dtype(torch.float64)
SHIPPED = _muon._zeropower_via_newtonschulz
JORDAN = (3.4445, -4.7750, 2.0315)

# Listing 1 of 2505.16932.
POLAR_EXPRESS = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]
POLAR_EXPRESS = [(a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in POLAR_EXPRESS[:-1]] + POLAR_EXPRESS[-1:]

SHAPES = [(4, 6), (7, 3), (5, 5)]
STEPS = 6
LR = 0.1

rng = np.random.default_rng(17)
INIT = [np.round(rng.normal(size=s), 2) for s in SHAPES]
MEAN = [rng.normal(size=s) for s in SHAPES]
GRADIENTS = [[np.round(m + 0.5 * rng.normal(size=m.shape), 3) for m in MEAN] for _ in range(STEPS)]


def iterations_in(dtype):
    """PyTorch's own function, in another type."""
    source = inspect.getsource(SHIPPED)
    assert source.count("torch.bfloat16") == 1
    namespace = vars(_muon).copy()
    exec(source.replace("torch.bfloat16", f"torch.{dtype}"), namespace)
    return namespace[SHIPPED.__name__]


def flat(arrays):
    return [np.asarray(a, dtype=np.float64).ravel().tolist() for a in arrays]


def trajectory(shipped=False, **options):
    _muon._zeropower_via_newtonschulz = SHIPPED if shipped else iterations_in("float64")
    parameters = [torch.nn.Parameter(torch.tensor(v.copy())) for v in INIT]
    optimizer = torch.optim.Muon(parameters, lr=LR, **{"weight_decay": 0.0, **options})
    y = []
    for gradients in GRADIENTS:
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = torch.tensor(gradient.copy())
        optimizer.step()
        y.append(flat([p.detach().numpy().copy() for p in parameters]))
    return y


def by_singular_values(matrix, coefficients, margin):
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / (np.linalg.norm(matrix) * margin)
    for a, b, c in coefficients:
        s = a * s + b * s**3 + c * s**5
    return u * s @ v


def neurons(beta=0.95, beta2=0.9):
    y, momentum, squares = [p.copy() for p in INIT], [0.0] * len(INIT), [0.0] * len(INIT)
    out = []
    for gradients in GRADIENTS:
        for i, g in enumerate(gradients):
            momentum[i] = beta * momentum[i] + (1 - beta) * g
            o = by_singular_values((1 - beta) * g + beta * momentum[i], [JORDAN] * 5, 1.0)
            squares[i] = beta2 * squares[i] + (1 - beta2) * np.mean(o * o, axis=1, keepdims=True)
            normalised = o / (np.sqrt(squares[i]) + 1e-10)
            normalised *= np.linalg.norm(o) / (np.linalg.norm(normalised) + 1e-10)
            y[i] = y[i] - LR * max(1, o.shape[0] / o.shape[1]) ** 0.5 * normalised
        out.append(flat(y))
    return out


def matrix(rows, cols):
    given = np.round(rng.normal(size=(rows, cols)), 3)
    found = {"rows": rows, "cols": cols, "given": flat([given])[0]}
    for dtype in ("float64", "float32", "bfloat16"):
        result = iterations_in(dtype)(torch.tensor(given), JORDAN, 5, 1e-30)
        found[dtype] = flat([result.double().numpy()])[0]
    return found


def exact(rows, cols, iterations):
    given = np.round(rng.normal(size=(rows, cols)), 3)
    result = by_singular_values(given, (POLAR_EXPRESS + POLAR_EXPRESS[-1:] * 2)[:iterations], 1.01)
    return {"rows": rows, "cols": cols, "iterations": iterations, "given": flat([given])[0], "result": flat([result])[0]}


# The eps of PyTorch is the least that the norm is divided by; that of the others is added to it. With none they agree.
NO_EPS = {"eps": 1e-30}


def main():
    out = {
        "versions": {p: importlib.metadata.version(p) for p in ("numpy", "torch")},
        "shapes": [list(s) for s in SHAPES],
        "init": flat(INIT),
        "gradients": [flat(g) for g in GRADIENTS],
        "y": {
            "nesterov": trajectory(**NO_EPS),
            "default_eps": trajectory(),
            "heavy_ball": trajectory(nesterov=False, momentum=0.9, **NO_EPS),
            "weight_decay": trajectory(weight_decay=0.1, **NO_EPS),
            "match_rms_adamw": trajectory(adjust_lr_fn="match_rms_adamw", **NO_EPS),
            "spectral_unclamped": trajectory(adjust_lr_fn="spectral_unclamped", **NO_EPS),
            "eight_iterations": trajectory(ns_steps=8, **NO_EPS),
            "one_iteration": trajectory(ns_steps=1, **NO_EPS),
            "other_coefficients": trajectory(ns_coefficients=(2.0, -1.5, 0.5), **NO_EPS),
            "shipped": trajectory(shipped=True),
        },
        "neurons": neurons(),
        "matrices": [matrix(6, 10), matrix(9, 4), matrix(8, 8)],
        "exact": [exact(6, 9, 5), exact(9, 6, 6), exact(5, 5, 7), exact(4, 8, 8), exact(4, 8, 10)],
    }
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
