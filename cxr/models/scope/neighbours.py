"""How far an image lies from those of train, in the features of the network.

Two distances are added up. One is taken at the cut, in the mean and the standard deviation of each
channel: what lies below the cut was pretrained on all kinds of pictures and sees textures and
shapes that the diagnosis has no use for. The other is taken in the pooled features, which the
network learned on these films, as directions (their length says how sure the network is). Each is
the distance to the k-th nearest image of train (Sun et al., "Out-of-distribution detection with
deep nearest neighbors", ICML 2022). Compared with Mahalanobis' distance and ViM in
bench/scope.py.
"""

from dataclasses import dataclass

import numpy as np

from cxr.stats.metrics import Vector

NEIGHBOUR = 5  # which one the distance is taken to
COMPONENTS = 128  # of the pooled features
_BLOCK = 256  # images whose distances are in memory at a time
_TINY = 1e-6


@dataclass(frozen=True)
class Neighbours:
    """The images of train in features, float32.

    Attributes:
        cut_mean: The mean of each statistic at the cut, (c,).
        cut_scale: Its standard deviation, (c,).
        pooled_mean: The mean of the pooled features at length 1, (w,).
        directions: Their leading principal components, (w, k).
        cut: The images at the cut, standardised, (m, c).
        pooled: Their pooled features in these components, (m, k).
        balance: Mean and standard deviation of the logarithms of both distances among the images of
            train, (2, 2): rows for the cut and the pooled features.
    """

    cut_mean: Vector
    cut_scale: Vector
    pooled_mean: Vector
    directions: Vector
    cut: Vector
    pooled: Vector
    balance: Vector

    def components(self, features: Vector) -> Vector:
        """Return the pooled features of images in the leading components, float32 (n, k).

        Args:
            features: float32 (n, c + w), as the opened model gives them.
        """
        pooled = _at_length_one(features[:, len(self.cut_mean) :])
        projected: Vector = (pooled - self.pooled_mean) @ self.directions
        return projected

    def distances(self, features: Vector) -> Vector:
        """Return how far images lie from train, float64 (n,); about 0 for an image of train.

        Args:
            features: float32 (n, c + w), as the opened model gives them.
        """
        at_cut = (features[:, : len(self.cut_mean)] - self.cut_mean) / self.cut_scale
        by_part = (
            _log_distances(at_cut, self.cut, NEIGHBOUR),
            _log_distances(self.components(features), self.pooled, NEIGHBOUR),
        )
        return _combine(by_part, self.balance)


def learn_neighbours(features: Vector, cut_width: int) -> Neighbours:
    """Keep images of train as the reference of later ones.

    Args:
        features: float32 (m, c + w), as the opened model gives them; at least two images.
        cut_width: How many of them are statistics at the cut, c.
    """
    at_cut = features[:, :cut_width]
    cut_mean = at_cut.mean(axis=0)
    cut_scale = at_cut.std(axis=0) + _TINY
    pooled = _at_length_one(features[:, cut_width:])
    pooled_mean = pooled.mean(axis=0)
    centred = (pooled - pooled_mean).astype(np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    directions = vectors[:, ::-1][:, :COMPONENTS]
    # Half precision is enough for a distance, and halves the file.
    cut = ((at_cut - cut_mean) / cut_scale).astype(np.float16).astype(np.float32)
    projected = (centred @ directions).astype(np.float16).astype(np.float32)
    by_part = (
        _log_distances(cut, cut, NEIGHBOUR + 1),  # the nearest is the image itself
        _log_distances(projected, projected, NEIGHBOUR + 1),
    )
    balance = [[part.mean(), part.std() + _TINY] for part in by_part]
    return Neighbours(
        cut_mean=cut_mean,
        cut_scale=cut_scale,
        pooled_mean=pooled_mean,
        directions=directions.astype(np.float32),
        cut=cut,
        pooled=projected,
        balance=np.array(balance, np.float32),
    )


def _combine(by_part: tuple[Vector, Vector], balance: Vector) -> Vector:
    """Return the mean of both distances, each as train has it at mean 0 and deviation 1."""
    parts = np.stack(by_part, axis=1)
    means = balance[:, 0]
    deviations = balance[:, 1]
    standardised: Vector = (parts - means) / deviations
    combined: Vector = standardised.mean(axis=1)
    return combined


def _log_distances(rows: Vector, reference: Vector, neighbour: int) -> Vector:
    """Return the logarithm of the distance of each row to its k-th nearest of the reference.

    Args:
        rows: float (n, width).
        reference: float (m, width).
        neighbour: k, from 1; the farthest one where there are fewer.
    """
    place = min(neighbour, len(reference)) - 1
    squares = (reference**2).sum(axis=1)
    found = [np.empty(0)]
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        lengths = (block**2).sum(axis=1, keepdims=True)
        distances = lengths + squares - 2 * block @ reference.T
        found.append(np.partition(distances, place, axis=1)[:, place])
    logarithms: Vector = np.log(np.maximum(np.concatenate(found), _TINY))
    return logarithms / 2


def _at_length_one(features: Vector) -> Vector:
    """Return rows at length 1; one of zeros stays so."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Vector = features / np.maximum(lengths, _TINY)
    return scaled
