"""Find the pretrained weights that a training starts from."""

from cxr.core.errors import DataError, WeightsError
from cxr.core.files import file_sha256
from cxr.models.architectures import ARCHITECTURES
from cxr.storage.workspace import workspace


def find_weights(name: str, weights: str) -> tuple[str | None, str]:
    """Return (what `build` takes, SHA-256 or "") for a --weights value; raises WeightsError, never falls back.

    `weights` is imagenet, none, a folder, or one of these for each architecture:
    "MobileNetV2=DIR,VGG16=none".
    """
    chosen = _for_architecture(name, weights)
    if chosen in {"none", "imagenet"}:
        return (None if chosen == "none" else "imagenet"), ""
    try:
        folder = workspace.fetch_folder(chosen)
    except DataError as error:
        raise WeightsError(f"--weights {chosen}: {error}") from error
    if not folder.is_dir():
        raise WeightsError(
            f"--weights {chosen}: expected imagenet, none, or a folder; found no such folder"
        )
    fitting = [path for path in sorted(folder.glob("*.h5")) if _fits(path.name, name)]
    if len(fitting) != 1:
        seen = ", ".join(path.name for path in sorted(folder.iterdir())[:8]) or "nothing"
        raise WeightsError(
            f"--weights {chosen}: expected one *notop*.h5 file whose name starts with {name}, found {len(fitting)} "
            f"(the folder holds: {seen}). Add the file, leave {name} out with --arch, or say what to do for each: "
            f"--weights MobileNetV2={chosen},{name}=none"
        )
    return str(fitting[0].absolute()), file_sha256(fitting[0])


def _for_architecture(name: str, weights: str) -> str:
    if "=" not in weights:
        return weights
    each = dict(part.strip().split("=", 1) for part in weights.split(",") if "=" in part)
    if unknown := set(each) - set(ARCHITECTURES):
        raise WeightsError(
            f"--weights {weights}: expected names out of {list(ARCHITECTURES)}, found {sorted(unknown)}"
        )
    if name not in each:
        raise WeightsError(
            f"--weights {weights}: says nothing for {name}: add {name}=DIR or {name}=none"
        )
    return each[name]


def _fits(file: str, name: str) -> bool:
    plain = file.lower().replace("_", "")
    return plain.startswith(name.lower()) and "notop" in plain
