"""Tables and files of the results."""

import argparse
import json
import os
import shlex
import statistics
from pathlib import Path
from typing import Any

import sources
from install import Setup
from subjects import TARGETS, Group
from worker import SHAPES


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "q1": low, "q3": high, "min": min(values), "max": max(values)}


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def target_rows(found: list[Group]) -> list[dict[str, Any]]:
    by_title, rows = {group.title: group for group in found}, []
    for text, title, key, against, limit in TARGETS:
        ratios = by_title[title].ratios(key, against) if title in by_title else []
        ratio = statistics.median(ratios) if ratios else None
        verdict = "not measured" if ratio is None else "met" if ratio <= limit else "not met"
        rows.append({"target": text, "against": against, "limit": limit, "ratio": ratio, "verdict": verdict})
    return rows


def markdown(found: list[Group], about: dict[str, Any]) -> str:
    lines = ["# The cost of a step, beside other libraries", ""]
    lines += [f"* {name}: {value}" for name, value in about.items() if name != "versions"]
    lines += ["* versions: " + ", ".join(f"{name} {version}" for name, version in about["versions"].items()), ""]
    lines += [
        "Times are nanoseconds per parameter and step: the median over rounds of each round's median step, and the "
        "least and largest round. The ratio is to torch's fused AdamW of the same type, taken within rounds: its "
        "median and quartiles. All have the options that they come with. The type is that of parameters and gradients; "
        "state has the one that the library gives it. The reference is the Python package prodigy-plus-schedule-free; "
        "it and this project round bfloat16 stochastically, the others to the nearest.",
        "",
    ]
    for group in found:
        lines += [
            f"### {group.title}",
            "",
            "| optimizer | type | ns/parameter/step | ratio to fused AdamW |",
            "|---|---|--:|--:|",
        ]
        for subject in group.subjects:
            cells = [
                subject.name,
                subject.dtype,
                f"not run: {group.failed.get(subject.key, 'no round')}".replace("|", "/"),
                "",
            ]
            if subject.key in group.rounds:
                ns = spread(group.rounds[subject.key])
                cells[2] = f"{number(ns['median'])} [{number(ns['min'])}, {number(ns['max'])}]"
                if ratios := group.ratios(subject.key, subject.baseline):
                    ratio = spread(ratios)
                    cells[3] = f"{ratio['median']:.2f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += ["### Targets", "", "| target | against | at most | measured | |", "|---|---|--:|--:|---|"]
    for row in target_rows(found):
        measured = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        lines.append(f"| {row['target']} | {row['against']} | {row['limit']:.3f} | {measured} | {row['verdict']} |")
    return "\n".join(lines) + "\n"


def as_json(found: list[Group], about: dict[str, Any]) -> str:
    results = [
        {
            "group": group.title,
            "name": subject.name,
            "dtype": subject.dtype,
            "not_run": group.failed.get(subject.key),
            "rounds_ns": group.rounds.get(subject.key),
            "ratios": group.ratios(subject.key, subject.baseline),
            "said": group.said.get(subject.key),
        }
        for group in found
        for subject in group.subjects
    ]
    return json.dumps({"about": about, "results": results, "targets": target_rows(found)}, indent=1) + "\n"


def describe(setup: Setup, arguments: argparse.Namespace) -> dict[str, Any]:
    models = [
        line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")
    ]
    return {
        **sources.today(sources.STEP),
        "command": " ".join(["python3 benches/versus.py", *selection(arguments)]),
        "processor": models[0] if models else "unknown",
        "instruction set": instruction_set(),
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "seconds per subject and round": arguments.seconds,
        "versions": setup.versions,
    }


def selection(arguments: argparse.Namespace) -> list[str]:
    """The options that choose what is compared."""
    given = []
    if arguments.shapes != ",".join(SHAPES):
        given.append(f"--shapes {arguments.shapes}")
    if arguments.only:
        given.append(f"--only {shlex.quote(arguments.only)}")
    return given


def instruction_set() -> str:
    """The widest vectors of an x86 processor, as the engine chooses them."""
    flags = {flag for line in read("/proc/cpuinfo").splitlines() if line.startswith("flags") for flag in line.split()}
    known = {"avx512f": "AVX-512", "avx2": "AVX2"}
    return next((name for flag, name in known.items() if flag in flags), "unknown")


def read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def write(prefix: Path, texts: dict[str, str]) -> None:
    """All of the files or none: each is complete before the first takes its place."""
    for suffix, text in texts.items():
        Path(f"{prefix}{suffix}.new").write_text(text)
    for suffix in texts:
        os.replace(f"{prefix}{suffix}.new", f"{prefix}{suffix}")
