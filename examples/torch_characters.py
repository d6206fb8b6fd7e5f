"""A small transformer that learns characters, trained with torch.optim; one run of the study torch_characters.toml.

Every number that arms are compared by is a line of JSON on standard output. That is all that `ablate` asks of a script.
"""

import argparse
import gzip
import json
import pathlib
import signal
import sys

import torch
from torch import nn
from torch.nn import functional

# The characters of Jane Austen's Persuasion, as the task `characters` has them.
TEXT = pathlib.Path(__file__).parent / "../crates/ablate/ablate-tasks/data/persuasion.txt.gz"
CONTEXT, WIDTH, HEADS, BLOCKS, BATCH = 32, 48, 4, 2, 16


def say(step, split, loss, **further):
    print(json.dumps({"step": step, "split": split, "loss": loss, **further}))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.mixed, self.joined = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        count, length, _ = x.shape
        parts = self.mixed(self.norms[0](x)).view(count, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.joined(seen.transpose(1, 2).reshape(count, length, WIDTH))
        return x + self.perceptron(self.norms[1](x))


class Model(nn.Module):
    def __init__(self, letters):
        super().__init__()
        self.letters, self.places = nn.Embedding(letters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*[Block() for _ in range(BLOCKS)])
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, letters))

    def forward(self, x):
        return self.head(self.blocks(self.letters(x) + self.places.weight[: x.shape[1]]))


def loss_of(model, tokens, starts):
    x = torch.stack([tokens[start : start + CONTEXT + 1] for start in starts])
    logits = model(x[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten())


def evaluate(model, tokens):
    """Over starts that are the same for every run."""
    starts = torch.linspace(0, len(tokens) - CONTEXT - 2, 256).long()
    with torch.no_grad():
        return loss_of(model, tokens, starts).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--learning_rate", type=float, required=True)
    parser.add_argument("--schedule", choices=["constant", "linear-decay"], required=True)
    parser.add_argument("--beta1", type=float, required=True)
    parser.add_argument("--beta2", type=float, required=True)
    parser.add_argument("--weight_decay", type=float, required=True)
    parser.add_argument("--clip", type=float, required=True, help="the largest norm of a gradient; 0 for any")
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="a folder to go on from when it is started again")
    given = parser.parse_args()

    text = gzip.decompress(TEXT.read_bytes()).decode()
    letters = sorted(set(text))
    tokens = torch.tensor([letters.index(letter) for letter in text])
    train, validation, test = tokens.split([int(0.8 * len(tokens)), int(0.1 * len(tokens)), len(tokens) - int(0.8 * len(tokens)) - int(0.1 * len(tokens))])

    # The seed makes the weights, and a generator of its own the batches: no option of an arm moves either. That makes pairs.
    torch.manual_seed(given.seed)
    model = Model(len(letters))
    batches = torch.Generator().manual_seed(given.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), given.learning_rate, (given.beta1, given.beta2), weight_decay=given.weight_decay
    )
    # Whoever wants the machine back asks first.
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    saved, first = given.checkpoint / "state.pt", 0
    if saved.exists():
        state = torch.load(saved)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        batches.set_state(state["batches"])
        first = state["step"]
    for step in range(first, given.steps + 1):
        if step % max(given.steps // 10, 1) == 0 or step == given.steps:
            say(step, "validation", evaluate(model, validation))
        if step == given.steps:
            break
        rest = 1 - step / given.steps if given.schedule == "linear-decay" else 1
        for group in optimizer.param_groups:
            group["lr"] = given.learning_rate * rest
        starts = torch.randint(len(train) - CONTEXT - 1, (BATCH,), generator=batches)
        optimizer.zero_grad()
        loss = loss_of(model, train, starts)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), given.clip if given.clip > 0 else float("inf"))
        optimizer.step()
        if step % 10 == 0:
            say(step + 1, "train", loss.item(), norm=norm.item())
        if stopping or (step + 1) % 100 == 0:
            state = {"step": step + 1, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "batches": batches.get_state()}
            torch.save(state, saved.with_suffix(".new"))
            # The whole file, or the one before.
            saved.with_suffix(".new").replace(saved)
        if stopping:
            sys.exit(75)  # Start it again.
    say(given.steps, "test", evaluate(model, test))


if __name__ == "__main__":
    main()
