"""Ensembles: several networks as one Keras model, the mean of their logits."""

import numpy as np
from scipy.special import expit, logit

from tests.support.keras_process import run_with_keras

# Small networks of the layers that sharing, fusing and the head depend on.
_NETWORKS = """
import sys
import keras, numpy as np
from cxr.models.networks import ensembles, model_surgery
layers = keras.layers

def network(seed, seed_of_lower=0, filters=4, side=16):
    keras.utils.set_random_seed(seed_of_lower)
    pixels = keras.Input((None, None, None), name="pixels")
    gray = keras.ops.mean(pixels, axis=-1, keepdims=True)
    scaled = layers.Rescaling(1 / 255, name="scaling")(layers.Resizing(side, side, name="resize")(gray))
    lower = layers.Conv2D(filters, 3, padding="same", use_bias=False)(scaled)
    lower = layers.BatchNormalization(name="lower")(lower)
    keras.utils.set_random_seed(seed)
    branch = layers.Conv2D(filters, 3, padding="same", use_bias=False)(lower)
    branch = layers.BatchNormalization()(branch)
    added = layers.Add()([lower, branch])
    pooled = layers.GlobalAveragePooling2D(name="features")(added)
    score = layers.Dense(1, activation="sigmoid", name="score")(pooled)
    model = keras.Model(pixels, score, name="Small")
    rng = np.random.default_rng(seed)
    model.get_layer("score").set_weights([5 * rng.normal(size=(filters, 1)), rng.normal(size=1)])
    return model

images = np.random.default_rng(0).integers(0, 256, (6, 20, 24, 1)).astype(np.uint8)
"""


def in_keras(code: str) -> None:
    run_with_keras(_NETWORKS + code)


def test_the_score_is_that_of_the_mean_logit_in_a_fresh_process_without_trust(tmp_path):
    """Equal to SciPy's of the members' own scores to 1e-6, before and after a reload in safe mode, and fused to 1e-5.

    Logits of 40 and -38 average to 1, though as float32 scores they round to 1 and 0.
    """
    in_keras(f"""
networks = [network(seed) for seed in (1, 2, 3)]
members = [one.predict_on_batch(images)[:, 0] for one in networks]
built = ensembles.build_ensemble(networks)
*logits, scores = built.opened.predict_on_batch(images)
built.model.save("{tmp_path}/model.keras")
np.savez("{tmp_path}/seen.npz", images=images, members=members, scores=scores[:, 0], logits=np.concatenate(logits, 1))

sure = [network(1), network(2)]
for one, value in zip(sure, (40.0, -38.0)):
    one.get_layer("score").set_weights([np.zeros((4, 1)), np.array([value])])
assert sure[0].predict_on_batch(images).min() == 1.0
scores = ensembles.build_ensemble(sure).model.predict_on_batch(images)
assert np.allclose(scores, 1 / (1 + np.exp(-1)), atol=1e-6)
""")
    seen = np.load(tmp_path / "seen.npz")
    expected = expit(logit(seen["members"].astype(float)).mean(axis=0))
    assert np.ptp(seen["members"], axis=0).min() > 0.01, "members that agree test nothing"
    assert np.abs(seen["scores"] - expected).max() < 1e-6
    assert np.abs(expit(seen["logits"].T) - seen["members"]).max() < 1e-6
    run_with_keras(f"""
import keras, numpy as np
from cxr.models.networks import ensembles, model_surgery
seen = np.load("{tmp_path}/seen.npz")
model = keras.models.load_model("{tmp_path}/model.keras")
assert np.abs(model.predict_on_batch(seen["images"])[:, 0] - seen["scores"]).max() < 1e-6
fused = model_surgery.fuse_batch_norm(model)
assert np.abs(fused.predict_on_batch(seen["images"])[:, 0] - seen["scores"]).max() < 1e-5
inner = [layer for part in fused.layers if isinstance(part, keras.Model) for layer in part.layers]
assert inner and not any(isinstance(layer, keras.layers.BatchNormalization) for layer in inner)
""")


def test_members_share_what_is_equal_in_them():
    """One lower part and N upper ones, found by the weights; a branch around is not cut; nothing of other networks is shared."""
    in_keras("""
def parts(*networks):
    return ensembles.find_parts(ensembles.build_ensemble(networks).model)

lower = 9 * 4 + 4 * 4
upper = 4 * 9 * 4 + 4 * 4 + 5
shared, members = parts(network(1), network(2), network(3))
assert shared.layers[-1].name == "lower" and [one.count_params() for one in members] == [upper] * 3
assert ensembles.build_ensemble([network(1), network(2)]).model.count_params() == lower + 2 * upper
# With the branch equal, too, only the head differs; pooling stays in each for Grad-CAM.
same = [network(1), network(1)]
same[1].get_layer("score").set_weights([np.ones((4, 1)), np.zeros(1)])
shared, members = parts(*same)
assert isinstance(shared.layers[-1], layers.Add) and members[1].count_params() == 5
# The first convolution differs: the pixels are prepared once, and nothing more.
shared, members = parts(network(1), network(2, seed_of_lower=9))
assert shared.layers[-1].name == "scaling" and shared.count_params() == 0
# A normalisation before which another branch leaves: the place is not one to cut at.
one, other = network(1), network(1)
norm = [layer for layer in other.layers if isinstance(layer, layers.BatchNormalization)][1]
norm.set_weights([weight + 0.1 for weight in norm.get_weights()])
shared, members = parts(one, other)
assert shared.layers[-1].name == "lower"
for other in (network(2, filters=5), network(2, side=8)):
    shared, members = parts(network(1), other)
    assert shared.layers[-1].name == ("scaling" if other.get_layer("resize").height == 16 else "pixels")
pixels = keras.Input((None, None, 1))
pooled = layers.GlobalAveragePooling2D(name="features")(layers.Rescaling(1.0)(pixels))
other = keras.Model(pixels, layers.Dense(1, activation="sigmoid", name="score")(pooled))
assert parts(network(1), other).shared is None
assert ensembles.find_parts(one).members == []
""")
