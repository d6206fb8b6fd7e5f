"""Makes the event files of this folder: `pip install tensorboard==2.21.0 numpy`, then `python make_events.py`.

Two arms with three seeds, written as programs write them today: PyTorch's SummaryWriter (`simple_value`) and TensorFlow 2 and JAX's (tensors
without dimensions), in one folder for every run; beside the loss, an image and a histogram that no analysis wants.
"""

import pathlib
import shutil

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb as histogram
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

TOP = pathlib.Path(__file__).parent / "tensorboard"


def simple(tag, value):
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])


def tensor(tag, value):
    return scalar_pb(tag, value)


def double(tag, value):
    found = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_DOUBLE, tensor_shape=tensor_shape_pb2.TensorShapeProto(), double_val=[value]
    )
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, tensor=found)])


def write(arm, seed, scalar):
    writer = EventFileWriter(str(TOP / arm / f"seed{seed}"))
    for step in (0, 50, 100):
        loss = 2.0 / (1 + step / 25) + 0.01 * seed + (0.125 if arm == "lion" else 0.0)
        of = [scalar("loss/val", loss), scalar("lr", 0.5**step), histogram("weights", np.arange(5.0) * step)]
        for summary in of:
            writer.add_event(event_pb2.Event(wall_time=1_700_000_000 + step, step=step, summary=summary))
    writer.close()


shutil.rmtree(TOP, ignore_errors=True)
for seed in range(3):
    write("adam", seed, simple)
    write("lion", seed, [tensor, double, tensor][seed])
# The writer's name has the time, the machine and the process; a stable one for the repository.
for path in sorted(TOP.glob("*/*/events.out.tfevents.*")):
    path.rename(path.with_name("events.out.tfevents.1700000000.example"))
