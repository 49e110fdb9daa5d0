"""The networks that can be trained: plain data, which settings, trainings and plots all read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

# VGG16 was trained on BGR pixels 0..255 with these means of ImageNet subtracted, DenseNet121 on RGB
# pixels 0..1, standardised with these means and standard deviations.
_VGG_MEANS_BGR = (103.939, 116.779, 123.68)
_IMAGENET_MEANS = (0.485, 0.456, 0.406)
_IMAGENET_STDS = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """A network that can be trained.

    Attributes:
        application: The name of the function in keras.applications.
        scales: What gray pixels 0..255 are multiplied with for each of the three channels.
        offsets: What is added then. Keras applications disagree on scaling, and a model that is fed
            wrongly scaled pixels does not fail: it is only worse.
        cut: The layer whose output is cached, and above which fine-tuning trains all layers.
        learning_rate: The peak learning rate where the layers above the cut learn.
        whole_learning_rate: The peak learning rate where the whole network learns.
        relative_cost: Work per image in GFLOP at 224x224, to start the longest training first.
        bfloat16: Whether half precision pays on processors that have it (measured: VGG16 is 2.0
            times as fast, DenseNet121 1.3, MobileNetV2 0.8).
        colour: The colour of its curves, out of Okabe and Ito's, as RGB hex digits.
        line_style: Their line style, as matplotlib takes it: it tells curves apart in gray print.
    """

    application: str
    scales: tuple[float, float, float]
    offsets: tuple[float, float, float]
    cut: str
    learning_rate: float
    whole_learning_rate: float
    relative_cost: float
    bfloat16: bool
    colour: str
    line_style: Any


ARCHITECTURES: Mapping[str, Architecture] = {
    "MobileNetV2": Architecture(
        application="MobileNetV2",
        scales=(1 / 127.5, 1 / 127.5, 1 / 127.5),
        offsets=(-1.0, -1.0, -1.0),
        cut="block_12_add",
        learning_rate=2e-4,
        whole_learning_rate=2e-4,
        relative_cost=0.6,
        bfloat16=False,
        colour="#009E73",
        line_style="-",
    ),
    "VGG16": Architecture(
        application="VGG16",
        scales=(1.0, 1.0, 1.0),
        offsets=(-_VGG_MEANS_BGR[0], -_VGG_MEANS_BGR[1], -_VGG_MEANS_BGR[2]),
        cut="block4_pool",
        learning_rate=2e-4,
        whole_learning_rate=5e-5,
        relative_cost=30.7,
        bfloat16=True,
        colour="#CC79A7",
        line_style=(0, (6, 2)),
    ),
    "DenseNet121": Architecture(
        application="DenseNet121",
        scales=(
            1 / (255 * _IMAGENET_STDS[0]),
            1 / (255 * _IMAGENET_STDS[1]),
            1 / (255 * _IMAGENET_STDS[2]),
        ),
        offsets=(
            -_IMAGENET_MEANS[0] / _IMAGENET_STDS[0],
            -_IMAGENET_MEANS[1] / _IMAGENET_STDS[1],
            -_IMAGENET_MEANS[2] / _IMAGENET_STDS[2],
        ),
        cut="pool4_pool",
        learning_rate=2e-4,
        whole_learning_rate=2e-4,
        relative_cost=5.7,
        bfloat16=True,
        colour="#E69F00",
        line_style=(0, (8, 2, 2, 2)),
    ),
}
"""Every network, by its name in settings, flags and files.

To add one, add an entry here: all else follows from it (the names that `--arch` takes, the schema
of the flows, how the network is built, cut and drawn, the parametrised tests). Which networks are
compared where `--arch` is not given is a choice of its own: `TrainingSettings.arch`.
"""

if TYPE_CHECKING:
    ArchitectureName = str  # type checkers take no Literal that is made at run time
else:
    ArchitectureName = Literal[tuple(ARCHITECTURES)]
