"""The images of a phantom data set: their numbers by class and split, patients and file names."""

from typing import NamedTuple

from numpy.random import Generator

from cxr.core.settings import LABEL_NAMES

_NORMAL_SHARE = 1 / 2.6  # 1 NORMAL to 1.6 PNEUMONIA: milder than the 1 to 2.9 of the published set
_TEST_SHARE = 0.25
_VAL_IMAGES = 8
_MOST_IMAGES_OF_PATIENT = 3


class PlannedImage(NamedTuple):
    """One image to draw.

    Attributes:
        key: Its path in the data set.
        patient: The number of its patient.
        label: 0 for NORMAL, 1 for PNEUMONIA.
        number: Its own number.
    """

    key: str
    patient: int
    label: int
    number: int


class _Group(NamedTuple):
    """The images of one split and class.

    Attributes:
        split: train or test.
        label: 0 for NORMAL, 1 for PNEUMONIA.
        images: How many there are, those for val among them.
        val_images: How many of them go to val, each the last one of a different patient.
    """

    split: str
    label: int
    images: int
    val_images: int


def plan_images(rng: Generator, images: int) -> list[PlannedImage]:
    """Plan all good images of a data set.

    Patients are numbered through both classes and all splits.

    Args:
        rng: What sizes and names are drawn from.
        images: How many images there are.
    """
    planned: list[PlannedImage] = []
    patient = 0
    for group in _groups(images):
        sizes = _images_per_patient(rng, group.images, group.val_images)
        for index, size in enumerate(sizes):
            patient += 1
            splits = [group.split] * size
            if index < group.val_images:
                splits[-1] = "val"
            first_number = len(planned) + 1
            names = draw_file_names(
                rng,
                group.label,
                patient,
                first_number,
                size,
            )
            for split, name in zip(splits, names, strict=True):
                image = PlannedImage(
                    key=f"{split}/{LABEL_NAMES[group.label]}/{name}",
                    patient=patient,
                    label=group.label,
                    number=len(planned) + 1,
                )
                planned.append(image)
    return planned


def _groups(images: int) -> list[_Group]:
    """Return the groups in the order in which they are drawn."""
    test_images = round(images * _TEST_SHARE)
    val_images = min(_VAL_IMAGES, images // 5)
    train_and_val_images = images - test_images
    return [
        *_groups_of_classes("train", train_and_val_images, val_images),
        *_groups_of_classes("test", test_images, 0),
    ]


def _groups_of_classes(
    split: str,
    images: int,
    val_images: int,
) -> list[_Group]:
    normal_val_images = val_images // 2
    normal_images = normal_val_images + round((images - val_images) * _NORMAL_SHARE)
    pneumonia_images = images - normal_images
    pneumonia_val_images = val_images - normal_val_images
    return [
        _Group(split, 0, normal_images, normal_val_images),
        _Group(split, 1, pneumonia_images, pneumonia_val_images),
    ]


def _images_per_patient(
    rng: Generator,
    images: int,
    val_images: int,
) -> list[int]:
    """Return how many images each patient has, 1 to 3.

    The first patients have at least 2, so that one can go to val and another stays in train.

    Args:
        rng: What the numbers are drawn from.
        images: Their sum.
        val_images: How many patients have one in val.
    """
    sizes: list[int] = []
    remaining = images
    while remaining > 0:
        fewest = 2 if len(sizes) < val_images else 1
        size = int(rng.integers(fewest, _MOST_IMAGES_OF_PATIENT + 1))
        size = min(remaining, size)
        sizes.append(size)
        remaining -= size
    return sizes


def draw_file_names(
    rng: Generator,
    label: int,
    patient: int,
    first_number: int,
    count: int,
) -> list[str]:
    """Return file names of one patient's images, in the form of the published data set.

    Args:
        rng: What etiology and prefix are drawn from.
        label: 0 for NORMAL, 1 for PNEUMONIA.
        patient: The patient's number.
        first_number: The number of the first image.
        count: How many names are wanted.
    """
    if label == 1:
        etiology = rng.choice(["bacteria", "bacteria", "virus"])
        numbers = range(first_number, first_number + count)
        return [f"person{patient}_{etiology}_{number}.jpeg" for number in numbers]
    prefix = rng.choice(["", "NORMAL2-"])
    return [f"{prefix}IM-{patient:04d}-{index:04d}.jpeg" for index in range(1, count + 1)]
