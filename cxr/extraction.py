"""Features of one shard of a training's rows, computed before it, so that several machines share the work.

Done by `child.run`, with the job of the training and which shard of how many. What is
computed lies in the cache by content, where the training finds it; what is not, the training computes itself.
"""

from typing import Any

import numpy as np

from cxr import backend, training


def main(raw: dict[str, Any], emit: training.Emit) -> None:
    """Keep the features of one shard, and leave what they took in the training's folder."""
    job = training.Job(raw, emit)
    shard, shards = raw["shard"]
    with backend.scope():
        model = training.initial(job)  # random weights are settled on rows of the whole of train
        job.train, job.val = (
            np.array_split(rows, shards)[shard - 1] for rows in (job.train, job.val)
        )
        training.learned_from(model, job)
