"""Prints the scalars of a folder of event files as TensorBoard's own reader has them: a line of JSON for every run, tag, step and value.

`pip install tensorboard`, then `python read_events.py LOGDIR`.
"""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import STORE_EVERYTHING_SIZE_GUIDANCE
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.util import tensor_util

runs = EventMultiplexer(tensor_size_guidance=STORE_EVERYTHING_SIZE_GUIDANCE)
runs.AddRunsFromDirectory(sys.argv[1])
runs.Reload()
for run in runs.Runs():
    for tag in runs.GetAccumulator(run).Tags()["tensors"]:
        plugin = runs.SummaryMetadata(run, tag).plugin_data.plugin_name
        assert plugin == "scalars", f"{run} {tag} is shown by {plugin}"
        for event in runs.Tensors(run, tag):
            print(json.dumps([run, tag, event.step, tensor_util.make_ndarray(event.tensor_proto).item()]))
