"""Keras' own download of ImageNet weights, from a server here in place of the publisher's.

What stands in is the address and the expected hash alone: the files' names, the fetching, the check of the hash, the
cache and the loading into the network are Keras' own.
"""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

SCRIPT = """
import functools, hashlib, http.server, sys, threading
from pathlib import Path
from urllib.parse import urlsplit
import keras, numpy as np
from keras.src.utils import file_utils
from cxr.core.errors import WeightsError
from cxr.core.settings import training_settings
from cxr.models.networks.architectures import ARCHITECTURES, build_model

name, served = sys.argv[1], Path(sys.argv[2])
settings = training_settings("demo", image_size=64, seed=3)
asked = []

class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(served)))
threading.Thread(target=server.serve_forever, daemon=True).start()
fetch = file_utils.get_file

def get_file(file, origin, file_hash=None, **options):
    parts = urlsplit(origin)
    asked.append((parts.hostname, parts.path.rsplit("/", 1)[1]))
    path = served / parts.path.rsplit("/", 1)[1]
    if file_hash and path.exists():
        file_hash = hashlib.md5(path.read_bytes()).hexdigest()
    return fetch(file, f"http://127.0.0.1:{server.server_port}/{path.name}", file_hash=file_hash, **options)

file_utils.get_file = get_file
try:
    build_model(name, settings, "imagenet")
except WeightsError as error:
    assert "could not be loaded" in str(error) and "--weights" in str(error), error
else:
    raise AssertionError("nothing is served yet")
host, file = asked[-1]
assert host == "storage.googleapis.com", host
backbone = getattr(keras.applications, ARCHITECTURES[name].application)(include_top=False, weights=None, input_shape=(64, 64, 3))
backbone.save(served / file)  # ".h5": the older layout, which is that of the published files
model = build_model(name, settings, "imagenet")
for layer in backbone.layers:
    for own, published in zip(model.get_layer(layer.name).get_weights() if layer.weights else [], layer.get_weights(), strict=True):
        assert np.array_equal(own, published), layer.name
server.shutdown()
server.server_close()  # or connections would wait for ever in its backlog
build_model(name, settings, "imagenet")  # from Keras' cache: the server is gone
(Path(sys.argv[3]) / "models" / file).write_bytes(b"damaged")
try:
    build_model(name, settings, "imagenet")
except WeightsError as error:
    assert "could not be loaded" in str(error), error
else:
    raise AssertionError("a damaged file was loaded")
print("asked for", file)
"""


@pytest.mark.parametrize("name", ["MobileNetV2", "VGG16", "DenseNet121"])
def test_imagenet_weights_are_fetched_cached_and_loaded(name, tmp_path):
    """Asked for by the published name; unreachable or damaged is one sentence; the second time needs no network."""
    served = tmp_path / "served"
    served.mkdir()
    cache = tmp_path / "keras"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(served), str(cache)],
        env=os.environ | {"KERAS_HOME": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    stem = name.lower().replace("mobilenetv2", "mobilenet_v2")
    assert f"asked for {stem}_weights_tf_dim_ordering_tf_kernels" in done.stdout
