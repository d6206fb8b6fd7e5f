"""The sources that measured numbers depend on, as a digest.

Each table of numbers has the digest of its day. `cargo test -p examples --test documents` compares it with the sources as they are,
and wants the table to say when they differ.
"""

import hashlib
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of the crates below these folders. A test takes them from the tables.
STEP = ["crates/engine/gradient-transform", "crates/optimizers/prodigy-plus", "crates/transforms"]
DEVICE = [*STEP, "crates/engine/sweep-kernels", "crates/adapters/gradient-cuda"]
ENDINGS = {".rs", ".h", ".wgsl"}


def digest(folders: Sequence[str], root: Path = ROOT) -> str:
    """Of all source files of crates below the folders, in the order of their paths."""
    files = {
        path.relative_to(root).as_posix(): path
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.suffix in ENDINGS and "src" in path.relative_to(root).parts
    }
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + files[name].read_bytes() + b"\0")
    return total.hexdigest()[:16]


def today(folders: Sequence[str]) -> dict[str, str]:
    """When, of which commit and of which sources a measurement is."""
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "sources": f"{digest(folders)} of {', '.join(folders)}",
    }
