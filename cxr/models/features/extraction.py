"""Features of one shard of a training's rows, computed before it, so that several machines share the work.

What is computed lies in the cache by content, where the training finds it; what is not, the training computes itself.
"""

import numpy as np

from cxr.models.compute import backend
from cxr.models.compute.worker import Emit
from cxr.models.training.trainer import Session, TrainingJob, compute_features, initial


class FeatureJob(TrainingJob):
    """Compute the features of one shard of a training's rows.

    Attributes:
        shard: Which shard, from 1, and of how many.
    """

    shard: tuple[int, int]

    def work(self, emit: Emit) -> None:
        """Keep the features, and what they took in the training's folder."""
        shard, shards = self.shard
        session = Session(self, emit)
        session.feature_time = self.folder / f"features-{shard}of{shards}.json"
        with backend.device_scope():
            # The statistics of random weights come from rows of the whole of train.
            model = initial(session)
            session.train = np.array_split(session.train, shards)[shard - 1]
            session.val = np.array_split(session.val, shards)[shard - 1]
            compute_features(model, session)
