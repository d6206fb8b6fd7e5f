#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: are the bits those of the processor, and what does a step cost beside PyTorch?
#   benches/device.sh [PROGRAM [REFERENCE [OUT]]]
# PROGRAM is the example `device` of gradient-cuda, built here or brought along (it needs neither Rust nor a network); REFERENCE a
# folder with the Python package `prodigyplus`. Needs PyTorch with CUDA. Comparing bits ends after 200 seconds, done or not; the exit
# status says whether all agreed.
set -uo pipefail
cd "$(dirname "$0")/.."
program="${1:-target/release/examples/device}"
reference="${2:-}"
out="${3:-benches}"
if [ ! -x "$program" ]; then
    cargo build --release -p gradient-cuda --example device || exit 1
fi
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
timeout 200 "$program" check
agreed=$?
python3 benches/device.py "$program" ${reference:+--reference "$reference"} --out "$out"
exit "$agreed"
