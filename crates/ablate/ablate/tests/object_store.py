"""A study of 200 runs over four processes that share an object store, of which two are killed at random moments.

    python3 object_store.py ABLATE MOTO_SERVER [SEED]

ABLATE was built with the feature `object-store`; MOTO_SERVER is the program of PyPI's package `moto[server]`, which speaks S3. Every process has a folder of its own, and, where
`unshare` is allowed, process numbers of its own, so that the others take it for one of another machine. A new one takes the place of a killed one. All reports
must equal that of an undisturbed single process on a folder, but for times.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from hyperqueue import RUNS, STUDY, report, stored

PROCESSES = 4
KILLS = 2
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


def main():
    ablate, moto = (str(Path(path).resolve()) for path in sys.argv[1:3])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    chance = random.Random(seed)
    apart = UNSHARE if subprocess.run([*UNSHARE, "true"], stderr=subprocess.DEVNULL).returncode == 0 else []
    print(f"seed {seed}, {PROCESSES} processes{', with process numbers of their own' if apart else ''}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ablate-object-store-"))
    (folder / "my.toml").write_text(STUDY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "RAYON_NUM_THREADS": "1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    requests = open(folder / "requests.log", "w")
    server = subprocess.Popen([moto, "-p", str(port)], stdout=requests, stderr=requests)

    def s3(method, what):
        return urllib.request.urlopen(urllib.request.Request(f"{url}/{what}", method=method)).read().decode()

    def names():
        found = re.findall(r"<Key>studies/my/runs/(.*?)</Key>", s3("GET", "bucket?list-type=2&prefix=studies/my/runs/"))
        assert len(found) < 1000
        return found

    def start(out, *more, prefix=()):
        command = [*prefix, ablate, "run", "my.toml", "--out", out, "--threads", "1", *more]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=open(folder / f"{out}.log", "w"))

    try:
        while True:
            try:
                s3("PUT", "bucket")
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.2)
        assert start("alone").wait() == 0
        alone = folder / "alone"
        assert stored([alone]) == RUNS
        store = ["--store", "s3://bucket/studies/my"]
        machines = [f"machine-{index}" for index in range(PROCESSES)]
        processes = {machine: start(machine, *store, prefix=apart) for machine in machines}
        moments = sorted(chance.sample(range(1, RUNS - 10), KILLS))
        victims = chance.sample(machines, KILLS)
        for count, victim in zip(moments, victims):
            while sum(name.endswith(".json") for name in names()) < count:
                time.sleep(0.02)
            claims = sum(name.endswith(".claim") for name in names())
            process = processes.pop(victim)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, folder
            print(f"  {victim} was killed after {count} runs, while {claims} were under way", flush=True)
            processes[f"{victim}-anew"] = start(f"{victim}-anew", *store, prefix=apart)
        for machine, process in processes.items():
            assert process.wait() == 0, (folder, machine)
            assert report(folder / machine) == report(alone), (folder, machine)
        all = set(names())
        runs = {name for name in all if name.endswith(".json")}
        assert runs == {path.name for path in (alone / "runs").glob("*.json")}, folder
        # A process may have been killed between a run and its claim's end.
        left = {name for name in all - runs if name.replace(".claim", ".json") not in runs}
        assert not left, (folder, left)
        log = (folder / "requests.log").read_text()
        print(f"  {len(runs)} runs, and the report of the single process, in {len(processes)} folders", flush=True)
        counts = [f"{log.count(f'{chr(34)}{method} /')} {method}" for method in ("GET", "PUT", "DELETE", "POST")]
        print(f"  requests: {', '.join(counts)}; refused: {log.count(' 412 ')}", flush=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
