"""What versus.py compares, and the targets."""

from dataclasses import dataclass, field
from typing import Any

from worker import SHAPES

OURS, FUSED_BY_HAND = "this project, default", "the same step, fused by hand"
DENSE, MUON = "this project, dense second moment", "this project, Muon"
FUSED, REFERENCE, REFERENCE_MUON = "torch AdamW, fused", "reference, default", "reference, Muon"
OURS_OF_TORCH, TORCH_MUON = "this project, torch's Muon", "torch Muon"
ADDED = {
    "ADOPT": ["use_adopt=true"],
    "OrthoGrad": ["use_orthograd=true"],
    "Cautious": ["use_cautious=true"],
    "Grams": ["use_grams=true"],
    "FOCUS": ["use_focus=true", "factored=false"],  # exclude each other
    "SPEED": ["use_speed=true"],
    "atan2": ["eps=null"],
    "weight decay": ["weight_decay=0.1"],
}


@dataclass(frozen=True)
class Subject:
    name: str
    dtype: str
    needs: str  # "step-bench", "peers", or what of PACKAGES
    arguments: tuple[str, ...]  # the worker's optimizer, or arguments of a program

    @property
    def key(self) -> str:
        return f"{self.name} {self.dtype}"

    @property
    def baseline(self) -> str:
        return f"{FUSED} {self.dtype}"


@dataclass
class Group:
    """Subjects that are compared with one another."""

    shapes: str
    title: str
    subjects: list[Subject]
    warm_up: int = 3
    failed: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)  # medians in ns per parameter, by key
    said: dict[str, Any] = field(default_factory=dict)  # what else a subject said of itself

    def ratios(self, key: str, baseline: str) -> list[float]:
        return [a / b for a, b in zip(self.rounds.get(key, []), self.rounds.get(baseline, []))]


def ours(name: str, dtype: str, *options: str) -> Subject:
    return Subject(name, dtype, "step-bench", tuple(f"--option={option}" for option in options))


def groups() -> list[Group]:
    found = []
    for shapes in SHAPES:
        for dtype in ("f32", "bf16"):
            subjects = [
                Subject(FUSED, dtype, "torch", ("torch-fused",)),
                Subject("torch AdamW, foreach", dtype, "torch", ("torch-foreach",)),
                Subject("optax adamw", dtype, "optax", ("optax-adamw",)),
                Subject("optax schedule_free_adamw", dtype, "optax", ("optax-schedule-free",)),
                Subject("candle AdamW", dtype, "peers", ("--peer=candle",)),
                Subject("burn AdamW", dtype, "peers", ("--peer=burn",)),
                Subject(REFERENCE, dtype, "reference", ("reference",)),
                ours(OURS, dtype),
            ]
            if dtype == "f32" and shapes != "tiny":
                subjects.append(ours(DENSE, dtype, "factored=false"))
            if dtype == "f32" and shapes == "large":
                subjects.append(Subject(FUSED_BY_HAND, dtype, "step-bench", ("--fused",)))
            if dtype == "f32" and shapes == "gpt":
                subjects += [ours(f"this project, + {name}", dtype, *options) for name, options in ADDED.items()]
            found.append(Group(shapes, f"{shapes} {dtype}", subjects))
    muon = [
        subject
        for dtype in ("f32", "bf16")
        for subject in (
            Subject(FUSED, dtype, "torch", ("torch-fused",)),
            Subject(REFERENCE_MUON, dtype, "reference", ("reference-muon",)),
            ours(MUON, dtype, "use_muon_pp=true"),
        )
    ]
    # Five iterations each; torch's are in bfloat16 unless its function is changed.
    muon += [
        Subject(TORCH_MUON, "f32", "torch", ("torch-muon",)),
        Subject(f"{TORCH_MUON}, float32 iterations", "f32", "torch", ("torch-muon-full",)),
        Subject(OURS_OF_TORCH, "f32", "step-bench", ("--muon",)),
    ]
    return found + [Group("gpt", "gpt Muon", muon, warm_up=1)]


# Text, group, subject, what it is compared with, and the largest ratio that meets the target.
TARGETS = [
    *[(f"default, f32, {s}", f"{s} f32", f"{OURS} f32", f"{FUSED} f32", 1.15) for s in ("large", "gpt")],
    *[(f"default, bf16, {s}", f"{s} bf16", f"{OURS} bf16", f"{FUSED} bf16", 1.25) for s in ("large", "gpt")],
    *[(f"default, {d}, tiny", f"tiny {d}", f"{OURS} {d}", f"{FUSED} {d}", 0.5) for d in ("f32", "bf16")],
    *[(f"dense, f32, {s}", f"{s} f32", f"{DENSE} f32", f"{FUSED} f32", 1.7) for s in ("large", "gpt")],
    *[(f"+ {o}, f32, gpt", "gpt f32", f"this project, + {o} f32", f"{FUSED} f32", 1.6) for o in ADDED],
    ("Muon, f32, gpt", "gpt Muon", f"{MUON} f32", f"{REFERENCE_MUON} bf16", 1.0),
    *[
        (f"torch's Muon, f32, gpt{text}", "gpt Muon", f"{OURS_OF_TORCH} f32", f"{TORCH_MUON}{text} f32", 1.0)
        for text in ("", ", float32 iterations")
    ],
    *[
        (f"default, {dtype}, {s}", f"{s} {dtype}", f"{OURS} {dtype}", f"{REFERENCE} {dtype}", limit)
        for dtype, limit in (("f32", 1 / 6), ("bf16", 1 / 15))
        for s in ("large", "gpt")
    ],
]
