#!/usr/bin/env python3
"""Trains the same network on the same files with the Python reference, or with AdamW of PyTorch.

    python3 -m venv venv && venv/bin/pip install torch numpy prodigy-plus-schedule-free==1.9.2    # or 2.0.1
    venv/bin/python examples/mnist/reference.py --data DIR --epochs 14 --seed 1 --out mnist

The protocol is the one of the program `mnist`: the network, initialisation, normalisation, batches of 64 in a new order every
epoch, dropout, and the test at the averaged weights. The record is called after the version that is installed. Random numbers are PyTorch's, so runs compare by their spread over
seeds. Writes a record that the program `table` reads.
"""

import argparse
import gzip
import importlib.metadata
import json
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F


def idx(folder, name, dimensions):
    for path, opener in ((folder / name, open), (folder / f"{name}.gz", gzip.open)):
        if path.exists():
            data = opener(path, "rb").read()
            assert data[:4] == bytes([0, 0, 8, dimensions]), path
            sizes = np.frombuffer(data, ">u4", dimensions, 4).astype(int)
            return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(sizes)
    raise SystemExit(f"{name} is not in {folder}")


def images(folder, name):
    pixels = idx(folder, f"{name}-images-idx3-ubyte", 3).astype(np.float32) / 255
    labels = idx(folder, f"{name}-labels-idx1-ubyte", 1).astype(np.int64)
    return torch.from_numpy((pixels - 0.1307) / 0.3081)[:, None], torch.from_numpy(labels)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution1 = torch.nn.Conv2d(1, 32, 3)
        self.convolution2 = torch.nn.Conv2d(32, 64, 3)
        self.dropout1 = torch.nn.Dropout(0.25)
        self.dropout2 = torch.nn.Dropout(0.5)
        self.dense1 = torch.nn.Linear(9216, 128)
        self.dense2 = torch.nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.convolution1(x))
        x = F.max_pool2d(F.relu(self.convolution2(x)), 2)
        x = torch.flatten(self.dropout1(x), 1)
        return self.dense2(self.dropout2(F.relu(self.dense1(x))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--adamw", type=float, metavar="LR", help="AdamW of PyTorch without weight decay instead")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE",
                        help="an option of the reference, such as use_speed=true or eps=null; may be given several times")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("mnist"))
    arguments = parser.parse_args()
    if arguments.adamw and arguments.option:
        parser.error("--option is for the reference, not for --adamw")
    options = {name: json.loads(value) for name, value in (option.split("=", 1) for option in arguments.option)}
    if arguments.adamw:
        title = f"AdamW of PyTorch lr={arguments.adamw}"
    else:
        title = f"Python reference {importlib.metadata.version('prodigy-plus-schedule-free')}"
    title = " ".join([title, *arguments.option])
    path = arguments.out / f"{title.replace(' ', '-')}-seed{arguments.seed}.json"
    if path.exists():
        raise SystemExit(f"{path} is there already")
    arguments.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(arguments.seed)
    torch.backends.cudnn.allow_tf32 = False  # float32 on every device
    train, labels = (tensor.to(arguments.device) for tensor in images(arguments.data, "train"))
    test, digits = (tensor.to(arguments.device) for tensor in images(arguments.data, "t10k"))
    network = Network().to(arguments.device)
    if arguments.adamw:
        optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.adamw, weight_decay=0)
    else:
        from prodigyplus import ProdigyPlusScheduleFree

        optimizer = ProdigyPlusScheduleFree(network.parameters(), **options)
    epochs = []
    for number in range(arguments.epochs):
        network.train()
        if not arguments.adamw:
            optimizer.train()
        started, total = time.time(), 0.0
        for batch in torch.randperm(len(train)).to(arguments.device).split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(train[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        seconds = time.time() - started
        network.eval()
        if not arguments.adamw:
            optimizer.eval()
        with torch.no_grad():
            logits = torch.cat([network(part) for part in test.split(250)])
        epoch = {
            "loss": F.cross_entropy(logits, digits).item(),
            "correct": int((logits.argmax(1) == digits).sum()),
            "images": len(test),
            "training_loss": total / len(train),
            "d": None if arguments.adamw else float(optimizer.param_groups[0]["d"]),
            "seconds": seconds,
        }
        epochs.append(epoch)
        path.write_text(json.dumps({"optimizer": title, "seed": arguments.seed, "epochs": epochs}, indent=2))
        print(f"Epoch {number + 1:2}: loss {epoch['loss']:.4f}, {epoch['correct']}/{len(test)}, "
              f"d {epoch['d']}, {seconds:.0f} s", flush=True)
    print(f"{path} is written")


if __name__ == "__main__":
    main()
