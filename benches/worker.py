"""Steps the optimizer of one Python library, for versus.py.

    python worker.py OPTIMIZER SHAPES DTYPE THREADS WARM-UP

OPTIMIZER is torch-fused, torch-foreach, torch-muon, torch-muon-full, reference, reference-muon, optax-adamw or
optax-schedule-free. It says in a
line of JSON what it steps; then it answers every line that holds a number of steps by a line of JSON with their times.
It ends when its standard input does.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "large": [(4096, 4096)],
    "gpt": [(768, 768)] * 24 + [(3072, 768)] * 6 + [(768, 3072)] * 6 + [(768,)] * 50,
    "tiny": [(128, 64), (64,), (64, 64), (64,), (10, 64), (10,)] * 4,
}


def torch_muon(parameters: list[Any], full: bool) -> list[Any]:
    """PyTorch's Muon for matrices and its Adam for the rest; `full`: with iterations in the parameters' type, not in bfloat16."""
    import inspect

    import torch
    from torch.optim import _muon

    if full:
        name = "_zeropower_via_newtonschulz"
        source = inspect.getsource(getattr(_muon, name))
        assert source.count("torch.bfloat16") == 1
        exec(source.replace("torch.bfloat16", "grad.dtype"), vars(_muon))
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    return [torch.optim.Muon(matrices), torch.optim.Adam(others, fused=True)]


class Torch:
    """PyTorch's AdamW, or the Python package that steps torch tensors."""

    def __init__(self, optimizer: str, shapes: list[tuple[int, ...]], dtype: str, threads: int):
        import torch

        torch.set_num_threads(threads)
        torch.manual_seed(1)
        element = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]

        def random(scale: float, shape: tuple[int, ...]) -> torch.Tensor:
            return ((torch.rand(shape) * 2 - 1) * scale).to(element)

        self.parameters = [torch.nn.Parameter(random(0.1, shape)) for shape in shapes]
        for parameter, shape in zip(self.parameters, shapes):
            parameter.grad = random(0.01, shape)
        if optimizer == "torch-fused":
            self.optimizers: list[Any] = [torch.optim.AdamW(self.parameters, fused=True)]
        elif optimizer == "torch-foreach":
            self.optimizers = [torch.optim.AdamW(self.parameters, foreach=True)]
        elif optimizer.startswith("torch-muon"):
            self.optimizers = torch_muon(self.parameters, optimizer == "torch-muon-full")
        else:
            from prodigyplus import ProdigyPlusScheduleFree

            reference = ProdigyPlusScheduleFree(self.parameters, use_muon_pp=optimizer == "reference-muon")
            reference.train()
            self.optimizers = [reference]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def values(self) -> Any:
        import torch

        return torch.cat([parameter.detach().float().flatten() for parameter in self.parameters]).numpy()

    def types(self) -> tuple[list[Any], list[Any]]:
        kept = [x for optimizer in self.optimizers for entry in optimizer.state.values() for x in entry.values()]
        state = [x for x in kept if hasattr(x, "dtype") and x.ndim]
        return self.parameters, state


class Optax:
    """An optimizer of optax: the whole list in one compiled update, which may reuse the buffers it is given."""

    def __init__(self, optimizer: str, shapes: list[tuple[int, ...]], dtype: str):
        import jax
        import jax.numpy as jnp
        import optax

        element = {"f32": jnp.float32, "bf16": jnp.bfloat16}[dtype]
        keys = iter(jax.random.split(jax.random.key(1), 2 * len(shapes)))

        def random(scale: float, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(next(keys), shape, jnp.float32, -scale, scale).astype(element)

        self.parameters = [random(0.1, shape) for shape in shapes]
        self.gradients = [random(0.01, shape) for shape in shapes]
        make = optax.adamw if optimizer == "optax-adamw" else optax.contrib.schedule_free_adamw
        transform = make(1e-3)
        # A buffer can be given away once only, so state that is the parameters at first needs its own.
        self.state = jax.tree.map(lambda x: jnp.array(x, copy=True), transform.init(self.parameters))

        def update(parameters: Any, state: Any, gradients: Any) -> Any:
            updates, state = transform.update(gradients, state, parameters)
            return optax.apply_updates(parameters, updates), state

        self.update = jax.jit(update, donate_argnums=(0, 1))
        self.wait: Callable[[Any], Any] = jax.block_until_ready
        self.leaves: Callable[[Any], list[Any]] = jax.tree.leaves

    def step(self) -> None:
        self.parameters, self.state = self.update(self.parameters, self.state, self.gradients)
        self.wait((self.parameters, self.state))

    def values(self) -> Any:
        import numpy

        return numpy.concatenate([numpy.asarray(x, dtype=numpy.float32).ravel() for x in self.parameters])

    def types(self) -> tuple[list[Any], list[Any]]:
        return self.parameters, [x for x in self.leaves(self.state) if x.ndim]


def names(tensors: Iterable[Any]) -> list[str]:
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})


def main() -> None:
    # Libraries print to standard output at will: only answers may go where they are read.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    optimizer, shape_name, dtype, threads, warm_up = sys.argv[1:]
    shapes = SHAPES[shape_name]
    subject = (
        Optax(optimizer, shapes, dtype)
        if optimizer.startswith("optax")
        else Torch(optimizer, shapes, dtype, int(threads))
    )
    before = subject.values()
    for _ in range(int(warm_up)):
        subject.step()
    after = subject.values()
    moved = int((before != after).sum())
    if not moved or not (abs(after) < 1e6).all():
        sys.exit(f"the steps moved {moved} parameters, or made some of them non-finite")
    parameters, state = map(names, subject.types())
    hello = {"parameters": before.size, "moved": moved / before.size, "dtype": parameters, "state_dtype": state}
    print(json.dumps(hello), file=answers)
    del before, after
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            subject.step()
            times.append((time.perf_counter() - begin) * 1e9 / hello["parameters"])
        figures = {"median_ns": statistics.median(times), "min_ns": min(times), "max_ns": max(times)}
        print(json.dumps(figures), file=answers)


if __name__ == "__main__":
    main()
