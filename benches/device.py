"""What a step costs on an NVIDIA GPU, beside PyTorch's optimizers and the Python reference.

    python3 benches/device.py PROGRAM [--reference FOLDER] [--out FOLDER]

PROGRAM is the example `device` of gradient-cuda. FOLDER has the package `prodigyplus` in it, if it is not installed.
Needs PyTorch with CUDA. `benches/device.sh` calls it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

import sources

LISTS = {
    "large": [(1, (4096, 4096))],
    "gpt": [(24, (768, 768)), (6, (3072, 768)), (6, (768, 3072)), (50, (768,))],
    "tiny": [(4, (128, 64)), (4, (64,)), (4, (64, 64)), (4, (64,)), (4, (10, 64)), (4, (10,))],
    "billion": [(60, (4096, 4096))],
    "lora": [(250, (16, 1024)), (250, (1024, 16))],
}
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
ROUNDS = 15


def parameters(name: str, dtype: str) -> list[torch.nn.Parameter]:
    made = []
    for count, shape in LISTS[name]:
        for _ in range(count):
            p = torch.nn.Parameter(torch.rand(shape, device="cuda", dtype=TYPES[dtype]) * 0.1 - 0.05)
            p.grad = torch.rand(shape, device="cuda", dtype=TYPES[dtype]) * 0.1 - 0.05
            made.append(p)
    return made


def timed(optimizer: torch.optim.Optimizer, each: int) -> dict[str, float]:
    def steps(n: int) -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(n):
            optimizer.step()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / n * 1e3

    steps(3)
    times = [steps(each) for _ in range(ROUNDS)]
    return {"ms": median(times), "least": min(times), "most": max(times)}


def measure(subject: str, name: str, dtype: str, program: str) -> dict[str, float]:
    each = 2 if name == "billion" or subject == "reference" else 10
    if subject.startswith("ours"):
        options = {"ours": "{}", "ours, dense": '{"factored": false}', "ours, adopt": '{"use_adopt": true}'}[subject]
        command = [program, "time", name, dtype, options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=150)
        if result.returncode:
            raise RuntimeError((result.stderr.strip().splitlines() or ["failed"])[-1])
        return dict(json.loads(result.stdout))
    given = parameters(name, dtype)
    try:
        if subject == "AdamW, fused":
            return timed(torch.optim.AdamW(given, lr=1e-4, fused=True), each)
        if subject == "AdamW, foreach":
            return timed(torch.optim.AdamW(given, lr=1e-4, foreach=True), each)
        from prodigyplus.prodigy_plus_schedulefree import ProdigyPlusScheduleFree

        optimizer = ProdigyPlusScheduleFree(given)
        optimizer.train()
        return timed(optimizer, each)
    finally:
        given.clear()
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--lists", default="large,gpt,tiny,lora,billion")
    given = parser.parse_args()
    if given.reference:
        sys.path.insert(0, str(given.reference))
    subjects = ["AdamW, fused", "AdamW, foreach", "reference", "ours", "ours, dense", "ours, adopt"]
    table: list[str] = []

    def put(line: str) -> None:
        print(line, flush=True)
        table.append(line)
        (given.out / "device.md").write_text("\n".join(table) + "\n")

    put(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    put("")
    for name, value in sources.today(sources.DEVICE).items():
        put(f"* {name}: {value}")
    put("* command: benches/device.sh")
    put("")
    put("| list | type | optimizer | ms per step: median [least, most] | ratio to fused AdamW | launches |")
    put("| --- | --- | --- | --: | --: | --: |")
    for name in given.lists.split(","):
        for dtype in TYPES:
            fused = None
            for subject in subjects:
                if name == "billion" and subject in ("AdamW, foreach", "ours, adopt"):
                    continue
                try:
                    found = measure(subject, name, dtype, given.program)
                except Exception as error:  # noqa: BLE001 - a subject that fails must not end the others
                    put(f"| {name} | {dtype} | {subject} | {type(error).__name__}: {error} | | |")
                    continue
                fused = fused or found["ms"]
                spread = f"{found['ms']:.3f} [{found['least']:.3f}, {found['most']:.3f}]"
                launches = f"{found['launches']:.0f}" if "launches" in found else ""
                put(f"| {name} | {dtype} | {subject} | {spread} | {found['ms'] / fused:.2f} | {launches} |")


if __name__ == "__main__":
    main()
