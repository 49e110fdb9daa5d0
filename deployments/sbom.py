"""The software bill of materials: every package of requirements.lock, in CycloneDX 1.6 (JSON).

    python -m deployments.sbom build/sbom.json      # or: make sbom

It holds exact versions, the SHA-256 of every file that an installation accepts, markers (for which Python and system),
what needs what, and the licences of the packages that are installed here. No address of an index is in it.
"""

import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import NamedTuple

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

from deployments import licenses

ROOT = Path(__file__).parent.parent
_PIN = re.compile(
    r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+?))? *\\?$"
)


class Pin(NamedTuple):
    """One package of the lock in one version.

    Attributes:
        name: Its name.
        version: Its version.
        marker: For which Python and system it is, "" for all.
        hashes: SHA-256 of each of its files.
        parents: The packages that need it; our own is "cxr-pipeline".
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    parents: tuple[str, ...]


def read_lock(text: str) -> list[Pin]:
    """Return the packages of a lock as `uv pip compile --generate-hashes` writes it.

    Raises:
        ValueError: A line is neither a package, nor a hash, nor a comment.
    """
    pins: list[Pin] = []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip().removesuffix("\\").strip()
        if found := _PIN.match(line):
            pins.append(Pin(found["name"], found["version"], found["marker"] or "", (), ()))
        elif stripped.startswith("--hash=sha256:"):
            digest = stripped.removeprefix("--hash=sha256:")
            pins[-1] = pins[-1]._replace(hashes=(*pins[-1].hashes, digest))
        elif stripped.startswith("#"):
            parent = stripped.removeprefix("#").strip().removeprefix("via").strip()
            if parent and not parent.startswith("-"):
                pins[-1] = pins[-1]._replace(parents=(*pins[-1].parents, parent.split(" ")[0]))
        elif stripped:
            raise ValueError(
                f"requirements.lock, line {number}: expected a package, a hash or a comment, "
                f"found {line!r}: make it anew with `make lock`"
            )
    return pins


def describe(pin: Pin, licence: str) -> Component:
    """Return a package as CycloneDX has it."""
    found = DisjunctiveLicense(name=licence) if licence else None
    return Component(
        type=ComponentType.LIBRARY,
        name=pin.name,
        version=pin.version,
        bom_ref=f"{pin.name}@{pin.version}",
        purl=PackageURL("pypi", None, pin.name, pin.version),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in pin.hashes],
        licenses=[found] if found else [],
        properties=[Property(name="python:marker", value=pin.marker)] if pin.marker else [],
    )


def make_bom(lock: str, licences: dict[str, str]) -> Bom:
    """Return the bill of materials of a lock.

    Args:
        lock: The text of requirements.lock.
        licences: Of the packages whose licence is known, by their canonical name.
    """
    pins = read_lock(lock)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = Component(
        type=ComponentType.APPLICATION,
        name=project["name"],
        version=project["version"],
        bom_ref=project["name"],
        licenses=[DisjunctiveLicense(id=project["license"])],
    )
    described = [(pin, describe(pin, licences.get(pin.name, ""))) for pin in pins]
    by_name: dict[str, list[Component]] = {own.name: [own]}
    for pin, component in described:
        by_name.setdefault(pin.name, []).append(component)
    bom = Bom(
        components=[component for _, component in described],
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, lock),
    )
    bom.metadata.component = own
    for pin, component in described:
        for parent in pin.parents:
            for each in by_name.get(parent, []):
                bom.register_dependency(each, [component])
    return bom


def main(out: Path) -> None:
    """Write the bill of materials of requirements.lock, once it fits CycloneDX' own schema."""
    judged, _ = licenses.judge(licenses.installed())
    known: dict[str, str] = {canonicalize_name(package.name): package.licence for package in judged}
    bom = make_bom((ROOT / "requirements.lock").read_text(encoding="utf-8"), known)
    text = JsonV1Dot6(bom).output_as_string(indent=2)
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise ValueError(f"expected a document of CycloneDX 1.6, found: {problem}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n", encoding="utf-8")
    print(f"{out}: {len(bom.components)} packages")  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
