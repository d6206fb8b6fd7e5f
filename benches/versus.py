"""Compares what a step of this project's optimizer costs with the optimizers of other libraries.

    python3 benches/versus.py            everything, in about twenty minutes; writes benches/versus.md and .json
    python3 benches/versus.py --quick    everything once, in about two minutes, to see that it works; writes nothing

Needs Python 3.11, Rust and a network for the first run. Machines drift and others use them: what is compared runs in
turn within each round, and ratios are taken within rounds.
"""

import argparse
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from install import HERE, Failed, Setup, last_line, prepare, say
from report import as_json, describe, markdown, write
from subjects import FUSED, Group, Subject, groups
from worker import SHAPES

PATIENCE = 180  # seconds until an answer is given up
Measure = Callable[[int], dict[str, Any]]


def program(path: Path, subject: Subject, group: Group, threads: int) -> Measure:
    """A program that is run anew for every measurement."""

    def measure(steps: int) -> dict[str, Any]:
        arguments = [str(path), *subject.arguments, f"--shapes={group.shapes}", f"--dtype={subject.dtype}", "--json"]
        # Of many short steps the first ones find cold caches and sleeping threads.
        arguments += [f"--threads={threads}", f"--steps={steps}", f"--warm-up={max(group.warm_up, steps // 10)}"]
        try:
            result = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
        except (subprocess.TimeoutExpired, OSError) as error:
            raise Failed(str(error)) from error
        if result.returncode:
            raise Failed(last_line(result.stderr))
        return dict(json.loads(result.stdout))

    return measure


@contextmanager
def worker(python: Path, subject: Subject, group: Group, threads: int) -> Iterator[Measure]:
    """A process that lives as long as its group: it compiles, allocates and warms up once."""
    arguments = [str(python), str(HERE / "worker.py"), *subject.arguments, group.shapes, subject.dtype]
    arguments += [str(threads), str(group.warm_up)]
    pipe, errors = subprocess.PIPE, tempfile.TemporaryFile("w+")  # a pipe of errors would fill up unread
    # Its own session, so that an interrupt comes to this process alone, which then ends it.
    process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=errors, text=True, start_new_session=True)
    assert process.stdin and process.stdout
    questions, answers = process.stdin, process.stdout

    def failure(otherwise: str) -> Failed:
        process.kill()
        process.wait()
        errors.seek(0)
        return Failed(last_line(errors.read(), otherwise))

    def answer() -> dict[str, Any]:
        ready, _, _ = select.select([answers], [], [], PATIENCE)
        if not ready:
            raise Failed(f"no answer in {PATIENCE} s")  # what it printed meanwhile is no reason
        line = answers.readline()
        if not line:
            raise failure("it ended")
        return dict(json.loads(line))

    def measure(steps: int) -> dict[str, Any]:
        try:
            print(steps, file=questions, flush=True)
        except BrokenPipeError as error:
            raise failure("it ended") from error
        return hello | answer()

    try:
        hello = answer()
        yield measure
    finally:
        process.kill()
        process.communicate()
        errors.close()


def run(group: Group, setup: Setup, arguments: argparse.Namespace) -> None:
    """Measures a group. The first measurement of each subject only says how many steps fill its time."""
    parameters = sum(rows * (columns[0] if columns else 1) for rows, *columns in SHAPES[group.shapes])
    measures: dict[str, tuple[Measure, int]] = {}
    with ExitStack() as stack:

        def attempt(work: Callable[[Subject], None], subject: Subject) -> None:
            try:
                work(subject)
            except (Failed, ValueError, KeyError) as failure:
                say(f"  {subject.key}: {failure}")
                group.failed[subject.key] = str(failure)
                group.rounds.pop(subject.key, None)
                measures.pop(subject.key, None)

        def start(subject: Subject) -> None:
            if subject.needs in setup.broken:
                raise Failed(setup.broken[subject.needs])
            if subject.needs in setup.programs:
                measure = program(setup.programs[subject.needs], subject, group, arguments.threads)
            else:
                measure = stack.enter_context(worker(setup.python, subject, group, arguments.threads))
            said = measure(1 if arguments.quick or group.warm_up == 1 else 3)
            if said["parameters"] != parameters:
                raise Failed(f"it stepped {said['parameters']} parameters and not {parameters}")
            kept = ("parameters", "dtype", "state_dtype", "moved", "planned_bytes", "state_bytes")
            step = said["median_ns"] * 1e-9 * parameters
            steps = max(1 if step > 1 else 3, min(1000, int(arguments.seconds / step)))
            measures[subject.key] = measure, 1 if arguments.quick and step > 0.1 else steps
            group.said[subject.key] = {name: said[name] for name in kept if name in said} | {"steps": steps}

        def once(subject: Subject) -> None:
            measure, steps = measures[subject.key]
            group.rounds.setdefault(subject.key, []).append(measure(steps)["median_ns"])

        for subject in group.subjects:
            attempt(start, subject)
        # A round of Muon takes long, and its time varies little.
        rounds = min(arguments.rounds, 5) if group.warm_up == 1 else arguments.rounds
        for number in range(rounds):
            begin = time.monotonic()
            for subject in group.subjects if number % 2 == 0 else reversed(group.subjects):
                if subject.key in measures:
                    time.sleep(0.02)  # until the threads of the one before have stopped spinning
                    attempt(once, subject)
            say(f"  {group.title}: round {number + 1} of {rounds}, {time.monotonic() - begin:.1f} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of everything, to see that it works")
    parser.add_argument(
        "--shapes", metavar="NAME,...", default=",".join(SHAPES), help="of large (one 4096x4096), gpt, tiny"
    )
    parser.add_argument(
        "--only", metavar="REGEX", default="", help="rows such as 'burn AdamW f32', besides fused AdamW"
    )
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds of each comparison (default 9)")
    parser.add_argument("--seconds", metavar="S", type=float, help="stepping time of a row in a round (default 0.4)")
    parser.add_argument("--threads", metavar="N", type=int, default=2, help="threads, and processors used (default 2)")
    parser.add_argument(
        "--venv",
        metavar="FOLDER",
        type=Path,
        default=HERE / ".venv",
        help="where the Python libraries are installed (default benches/.venv, some GB; pip's own "
        "variables apply, so PIP_EXTRA_INDEX_URL can name an index with a smaller torch, without CUDA)",
    )
    parser.add_argument(
        "--out",
        metavar="PREFIX",
        type=Path,
        help="write PREFIX.md and PREFIX.json (default benches/versus, for a whole run; a part is only printed)",
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.shapes.split(",")) - set(SHAPES):
        parser.error(f"there are no shapes {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    try:
        re.compile(arguments.only)
    except re.error as error:
        parser.error(f"--only {arguments.only}: {error}")
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 9)
    arguments.seconds = arguments.seconds or (0.05 if arguments.quick else 0.4)
    if arguments.rounds < 1 or arguments.threads < 1 or arguments.seconds <= 0:
        parser.error("--rounds, --threads and --seconds must be above zero")
    whole = not arguments.quick and not arguments.only and set(arguments.shapes.split(",")) == set(SHAPES)
    if whole and arguments.out is None:
        arguments.out = HERE / "versus"
    return arguments


def chosen(arguments: argparse.Namespace) -> list[Group]:
    found = [group for group in groups() if group.shapes in arguments.shapes.split(",")]
    for group in found:
        wanted = [s for s in group.subjects if re.search(arguments.only, s.key)]
        group.subjects = [s for s in group.subjects if s in wanted or wanted and s.name == FUSED]
    return [group for group in found if group.subjects]


def main() -> None:
    arguments = parse()
    found = chosen(arguments)
    if not found:
        raise Failed(f"no row matches --only {arguments.only}")
    setup = prepare(arguments.venv, {subject.needs for group in found for subject in group.subjects})
    if hasattr(os, "sched_setaffinity"):  # also what XLA sizes its threads by
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NPROC")
    os.environ |= {name: str(arguments.threads) for name in names} | {"JAX_PLATFORMS": "cpu", "RUST_BACKTRACE": "0"}
    about = describe(setup, arguments)
    for place, group in enumerate(found):
        say(f"{group.title} ({place + 1} of {len(found)}): {len(group.subjects)} rows")
        try:
            run(group, setup, arguments)
        except KeyboardInterrupt:
            print(markdown(found[:place], about), end="", flush=True)
            raise
    text = markdown(found, about)
    if arguments.out:
        write(arguments.out, {".md": text, ".json": as_json(found, about)})
    print(text, end="")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        say("interrupted; nothing was written")
        sys.exit(130)
    except Failed as failure:
        say(f"error: {failure}")
        sys.exit(1)
