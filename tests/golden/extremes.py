#!/usr/bin/env python3
"""What the reference makes of extreme input: a Markdown table of the options with which parameters or d stop being finite.

    python3 -m venv venv && venv/bin/pip install torch numpy prodigy-plus-schedule-free==1.9.2
    venv/bin/python tests/golden/extremes.py

Twelve steps with random gradients on a matrix, a vector, a scalar and a convolution's kernel. `tests/tests/extremes.rs` is
the counterpart here.
"""

import contextlib
import io
import math

import torch
from prodigyplus import ProdigyPlusScheduleFree

SHAPES = ((40, 33), (64,), (), (8, 4, 3, 3))

OPTIONS = {
    "default": {},
    "dense": {"factored": False},
    "atan2": {"eps": None},
    "ADOPT": {"use_adopt": True},
    "OrthoGrad": {"use_orthograd": True},
    "Cautious": {"use_cautious": True},
    "Grams": {"use_grams": True},
    "FOCUS": {"use_focus": True},
    "SPEED": {"use_speed": True},
    "Muon": {"use_muon_pp": True},
}

# Name, factor of the gradients, whether of all steps (or of the fifth), factor of the weights.
INPUTS = [
    ("gradients of 1e13", 1e13, True, 1.0),
    ("gradients of 1e20", 1e20, True, 1.0),
    ("one step with gradients of 1e20", 1e20, False, 1.0),
    ("one step with gradients of 1e37", 1e37, False, 1.0),
    ("one step with infinite gradients", math.inf, False, 1.0),
    ("one step with NaN", math.nan, False, 1.0),
    ("gradients of 1e-20", 1e-20, True, 1.0),
    ("gradients of 1e-40", 1e-40, True, 1.0),
    ("gradients of 0", 0.0, True, 1.0),
    ("weights of 1e30", 1.0, True, 1e30),
    ("weights of 1e-30", 1.0, True, 1e-30),
]


def is_broken(options, dtype, factor, always, weight):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter((torch.randn(shape) * weight).to(dtype)) for shape in SHAPES]
    with contextlib.redirect_stdout(io.StringIO()):
        optimizer = ProdigyPlusScheduleFree(parameters, **options)
    for step in range(1, 13):
        for parameter in parameters:
            gradient = torch.randn(parameter.shape)
            parameter.grad = (gradient * (factor if always or step == 5 else 1.0)).to(dtype)
        optimizer.step()
    d = float(optimizer.param_groups[0]["d"])
    return not math.isfinite(d) or not all(torch.isfinite(parameter).all() for parameter in parameters)


def main():
    print("| Input | float32 | bfloat16 |\n| --- | --- | --- |")
    for name, factor, always, weight in INPUTS:
        cells = []
        for dtype in (torch.float32, torch.bfloat16):
            broken = [
                title for title, options in OPTIONS.items() if is_broken(options, dtype, factor, always, weight)
            ]
            cells.append("all" if len(broken) == len(OPTIONS) else ", ".join(broken) or "none")
        print(f"| {name} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
