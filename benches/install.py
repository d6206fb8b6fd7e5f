"""Installs and builds what versus.py compares."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# What pip installs, by what needs it. The reference's own requirement, torch, is the pinned one.
PACKAGES = {
    "torch": ["torch==2.15.0", "numpy==2.4.6"],
    "optax": ["jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8"],
    "reference": ["--no-deps", "prodigy-plus-schedule-free==1.9.2"],
}


class Failed(Exception):
    """A subject that could not be run, and why."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def last_line(text: str, otherwise: str = "no message") -> str:
    """The line of an error output that says most: that of a Rust program's error, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [otherwise]
    return next((line for line in lines if line.startswith(("Error:", "error:"))), lines[-1])[:300]


@dataclass
class Setup:
    python: Path
    programs: dict[str, Path]
    broken: dict[str, str]  # what is needed but could not be had, and why
    versions: dict[str, str]


def command(arguments: Sequence[str | Path], failure: str) -> str:
    result = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        raise Failed(f"{failure}: {last_line(result.stderr)}")
    return result.stdout


def prepare(venv: Path, needed: set[str]) -> Setup:
    """Installs and builds what is compared: what the subjects need."""
    python = venv / "bin" / "python"
    setup = Setup(python, {}, {}, {"python": sys.version.split()[0]})
    if not (venv / "bin" / "pip").exists():
        say(f"making {venv}")
        command([sys.executable, "-m", "venv", venv], "no virtual environment")
    if "reference" in needed:
        needed = needed | {"torch"}
    for need, packages in PACKAGES.items():
        if need not in needed:
            continue
        say(f"installing {' '.join(packages)} (minutes, the first time)")
        try:
            command([python, "-m", "pip", "install", "--quiet", *packages], "not installed")
        except Failed as failure:
            setup.broken[need] = str(failure)
            say(str(failure))
    pinned = [package.partition("==")[0] for packages in PACKAGES.values() for package in packages]
    installed = json.loads(command([python, "-m", "pip", "list", "--format=json"], "nothing installed"))
    setup.versions |= {p["name"]: p["version"] for p in installed if p["name"] in pinned}
    if "torch" in setup.broken:
        setup.broken.setdefault("reference", setup.broken["torch"])
    metadata = command(["cargo", "metadata", "--no-deps", "--format-version=1"], "no metadata of the project")
    target = Path(json.loads(metadata)["target_directory"])
    if "step-bench" in needed:
        say("building step-bench (minutes, the first time)")
        command(["cargo", "build", "--release", "--locked", "--bin=step-bench"], "step-bench was not built")
        setup.programs["step-bench"] = target / "release" / "step-bench"
    if "peers" in needed:
        build_peers(setup, target)
    setup.versions["rustc"] = command(["rustc", "--version"], "no rustc").split()[1]
    return setup


def build_peers(setup: Setup, target: Path) -> None:
    """Builds the programs with other Rust libraries."""
    say("building benches/peers (minutes, the first time)")
    try:
        manifest = HERE / "peers" / "Cargo.toml"
        build: list[str | Path] = ["cargo", "build", "--release", "--locked", "--manifest-path", manifest]
        command([*build, "--target-dir", target], "not built")
        setup.programs["peers"] = target / "release" / "bench-peers"
        lock = tomllib.loads((HERE / "peers" / "Cargo.lock").read_text())
        wanted = ("burn", "burn-flex", "candle-core", "candle-nn")
        setup.versions |= {p["name"]: p["version"] for p in lock["package"] if p["name"] in wanted}
    except Failed as failure:
        setup.broken["peers"] = str(failure)
        say(str(failure))
