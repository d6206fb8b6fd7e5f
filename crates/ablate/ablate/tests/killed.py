"""Eight processes on one folder that are killed and started again for some minutes.

    python3 killed.py ABLATE [MINUTES] [SEED]

At every moment of chance one of them is killed (SIGKILL), or asked to end (SIGTERM), and another one started in its place. What they have together at the end must be the
report of an undisturbed single process, but for times. Where the study is done before the time is over, it is begun anew with other seeds.
"""

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hyperqueue import report

STUDY = """
tasks = [{{ task = "digits", steps = 200 }}, {{ task = "autoencoder", steps = 60 }}]
seeds = {seeds}
evaluations = 3
baselines = ["adamw"]
fork = {{ at = [20], arms = ["cautious"] }}
checkpoint_minutes = 0.005
[tuning]
rates = [1e-3, 1e-2]
seeds = 1
[[factor]]
name = "cautious"
on = {{ use_cautious = true }}
"""
PROCESSES = 8


def main():
    ablate = str(Path(sys.argv[1]).resolve())
    minutes = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}, {PROCESSES} processes", flush=True)
    end, studies, signals = time.monotonic() + 60 * minutes, 0, {signal.SIGKILL: 0, signal.SIGTERM: 0}
    while time.monotonic() < end:
        folder = Path(tempfile.mkdtemp(prefix="ablate-killed-"))
        (folder / "my.toml").write_text(STUDY.format(seeds=chance.randrange(6, 12)))

        def start(out):
            command = [ablate, "run", "my.toml", "--out", out, "--threads", "1"]
            return subprocess.Popen(command, cwd=folder, env={"RAYON_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        processes = [start("together") for _ in range(PROCESSES)]
        while not (folder / "together/report.html").exists() and time.monotonic() < end:
            time.sleep(chance.uniform(0, 1.5))
            index, asked = chance.randrange(PROCESSES), chance.choice(list(signals))
            if processes[index].poll() is None:
                processes[index].send_signal(asked)
                status = processes[index].wait()
                assert status in (0, 75, -asked), (folder, status)
                signals[asked] += status != 0
            else:
                assert processes[index].returncode in (0, 75, -9, -15), (folder, processes[index].returncode)
            processes[index] = start("together")
        for process in processes:
            assert process.wait() == 0, folder
        assert start("alone").wait() == 0
        assert report(folder / "together") == report(folder / "alone"), folder
        names = [{path.name for path in (folder / out / "runs").iterdir()} for out in ("together", "alone")]
        assert names[0] == names[1], (folder, names[0] ^ names[1])
        studies += 1
        print(f"  study {studies}: {len(names[1])} files, and the report of the single process", flush=True)
    print(f"{signals[signal.SIGKILL]} processes were killed, and {signals[signal.SIGTERM]} asked to end")


if __name__ == "__main__":
    main()
