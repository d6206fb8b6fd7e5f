"""A study of 200 runs over four workers of HyperQueue, of which two are killed at random moments.

    python3 hyperqueue.py ABLATE HQ [SEED]

ABLATE and HQ are the two programs. Twice: with `ablate submit hyperqueue --go` on one folder, and with a folder for every share, brought together by
`ablate merge`. Both reports must equal that of an undisturbed single process, but for times. A killed worker takes its tasks with it, as a machine does that
loses its power; a new one takes its place.
"""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# 2 tasks: 8 runs for tuning each (2 rates, 2 schedules, 2 seeds), and 4 arms with 23 seeds.
STUDY = """
tasks = [{ task = "digits", steps = 300 }, { task = "autoencoder", steps = 80 }]
seeds = 23
evaluations = 3
baselines = ["adamw"]
[tuning]
rates = [1e-3, 1e-2]
seeds = 2
[[factor]]
name = "cautious"
on = { use_cautious = true }
[[factor]]
name = "stableadamw"
off = { use_stableadamw = false }
"""
RUNS = 200
WORKERS = 4
SHARES = 16
KILLS = 2


def report(folder):
    page = (folder / "report.html").read_text()
    page = re.sub(r'<section id="time">.*?</section>', "", page, flags=re.S)
    return page, (folder / "effects.csv").read_text(), (folder / "runs.csv").read_text()


def stored(folders):
    return len({path.name for folder in folders for path in (folder / "runs").glob("*.json")})


def descendants(pid):
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += descendants(int(child))
    return found


class Cluster:
    def __init__(self, hq, folder):
        self.hq, self.folder = hq, folder
        self.environment = {**os.environ, "HQ_SERVER_DIR": str(folder / "server"), "RAYON_NUM_THREADS": "1"}
        self.server = self.start("server", "start")
        while not (folder / "server" / "hq-current").exists():
            time.sleep(0.1)
        self.workers = [self.worker() for _ in range(WORKERS)]

    def start(self, *arguments):
        log = open(self.folder / "hq.log", "a")
        return subprocess.Popen([self.hq, *arguments], env=self.environment, stdout=log, stderr=log)

    def worker(self):
        return self.start("worker", "start", "--cpus=1")

    def kill(self, index):
        for pid in descendants(self.workers[index].pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.workers[index].wait()
        self.workers[index] = self.worker()

    def disturbed(self, folders, moments):
        """Waits for the last job, and kills a worker whenever so many runs are stored."""
        while moments:
            if stored(folders()) >= moments[0][0]:
                count, worker = moments.pop(0)
                begun = len(list(self.folder.glob("**/*.claim")))
                self.kill(worker)
                print(f"  worker {worker} was killed after {count} runs, while {begun} were under way", flush=True)
            time.sleep(0.02)
        subprocess.run([self.hq, "job", "wait", "all"], env=self.environment, check=True)

    def stop(self):
        subprocess.run([self.hq, "server", "stop"], env=self.environment, check=False)
        for process in [*self.workers, self.server]:
            process.wait(30)


def main():
    ablate, hq = (str(Path(path).resolve()) for path in sys.argv[1:3])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ablate-hyperqueue-"))
    (folder / "my.toml").write_text(STUDY)

    def run(*arguments, **more):
        subprocess.run([ablate, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, **more)

    def moments(first, last):
        counts = sorted(chance.sample(range(first, last), KILLS))
        return list(zip(counts, chance.sample(range(WORKERS), KILLS)))

    run("run", "my.toml", "--out", "alone", "--threads", "1")
    alone = folder / "alone"
    assert stored([alone]) == RUNS, stored([alone])
    cluster = Cluster(hq, folder)
    try:
        print(f"one folder, {SHARES} shares, {WORKERS} workers:", flush=True)
        submit = ["submit", "hyperqueue", "my.toml", "--out", "together", "--shards", str(SHARES), "--go"]
        path = f"{Path(hq).parent}{os.pathsep}{os.environ['PATH']}"
        run(*submit, env={**cluster.environment, "PATH": path})
        together = folder / "together"
        cluster.disturbed(lambda: [together], moments(1, RUNS - 10))
        assert report(together) == report(alone), folder
        assert {path.name for path in (together / "runs").glob("*.json")} == {path.name for path in (alone / "runs").glob("*.json")}
        print(f"  {stored([together])} runs, and the report of the single process", flush=True)

        print("a folder for every share, brought together:", flush=True)
        shares = [folder / f"share-{index}" for index in range(SHARES)]
        command = f'exec "{ablate}" run my.toml --shard auto/{SHARES} --out share-$HQ_TASK_ID --threads 1'
        # First what tuning needs and what needs no tuning, then what waits for it.
        for first, last in [(1, 120), (155, RUNS - 10)]:
            array = f"--array=0-{SHARES - 1}"
            subprocess.run(
                [hq, "submit", array, f"--cwd={folder}", "--", "sh", "-c", command], env=cluster.environment, check=True, stdout=subprocess.DEVNULL
            )
            cluster.disturbed(lambda: shares, moments(first, last))
            run("merge", "my.toml", *(share.name for share in shares))
            for share in shares:
                run("merge", share.name, "ablation/my")
        run("report", "my.toml")  # which runs nothing
        assert report(folder / "ablation/my") == report(alone), folder
        print(f"  {stored([folder / 'ablation/my'])} runs, and the report of the single process", flush=True)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
