"""Find the pretrained weights that a training starts from."""

from pathlib import Path

from cxr.core.errors import DataError, WeightsError
from cxr.core.files import file_sha256
from cxr.models.networks.architectures import ARCHITECTURES
from cxr.storage.workspace import workspace

_NAMES_SHOWN = 8  # of the files in a folder


def find_weights(name: str, weights: str) -> tuple[str | None, str]:
    """Find the weights of one architecture; others never stand in for those that were asked for.

    Args:
        name: The architecture.
        weights: The value of --weights: imagenet, none, a folder, or one of these for each
            architecture, such as "MobileNetV2=DIR,VGG16=none".

    Returns:
        What `build_model` takes, and the SHA-256 of the file, "" if it is none.

    Raises:
        WeightsError: They are not there.
    """
    choice = _choice_for(name, weights)
    if choice == "none":
        return None, ""
    if choice == "imagenet":
        return "imagenet", ""
    path = _file_in(_fetch_folder(choice), name, choice)
    return str(path.absolute()), file_sha256(path)


def _choice_for(name: str, weights: str) -> str:
    """Return the part of a value of --weights that is for this architecture."""
    if "=" not in weights:
        return weights
    pairs = [part.strip().split("=", 1) for part in weights.split(",") if "=" in part]
    choices = dict(pairs)
    unknown = sorted(set(choices) - set(ARCHITECTURES))
    if unknown:
        raise WeightsError(
            f"--weights {weights}: expected names out of {list(ARCHITECTURES)}, found {unknown}"
        )
    if name not in choices:
        raise WeightsError(
            f"--weights {weights}: says nothing for {name}: add {name}=DIR or {name}=none"
        )
    return choices[name]


def _fetch_folder(choice: str) -> Path:
    """Return the folder of weight files, fetched if it is in a bucket."""
    try:
        folder = workspace.fetch_folder(choice)
    except DataError as error:
        raise WeightsError(f"--weights {choice}: {error}") from error
    if not folder.is_dir():
        raise WeightsError(
            f"--weights {choice}: expected imagenet, none, or a folder; found no such folder"
        )
    return folder


def _file_in(
    folder: Path,
    name: str,
    choice: str,
) -> Path:
    """Return the one file of weights of this architecture."""
    paths = [path for path in sorted(folder.glob("*.h5")) if _is_weight_file(path, name)]
    if len(paths) == 1:
        return paths[0]
    names = [path.name for path in sorted(folder.iterdir())]
    content = ", ".join(names[:_NAMES_SHOWN]) or "nothing"
    raise WeightsError(
        f"--weights {choice}: expected one *notop*.h5 file whose name starts with {name}, found "
        f"{len(paths)} (the folder holds: {content}). Add the file, leave {name} out with --arch, "
        f"or say what to do for each: --weights MobileNetV2={choice},{name}=none"
    )


def _is_weight_file(path: Path, name: str) -> bool:
    """Return whether a file is named as Keras names the backbone of this architecture."""
    plain = path.name.lower().replace("_", "")
    return plain.startswith(name.lower()) and "notop" in plain
