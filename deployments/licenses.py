"""The licences of everything that is installed, and whether the project may be given on with them.

    python -m deployments.licenses      # or: make licenses

The policy: what lets anybody use and pass on the software under a licence of their own choice (MIT, BSD, Apache, ISC,
PSF and the like) is allowed, and MPL-2.0, which asks only that changes to its own files be given on: we change none.
Everything else, and a package that names no licence, fails until a person has looked at it and written down here why it
may be used. A package that has to be used under the GPL, AGPL, SSPL or for non-commercial purposes may not be.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from typing import NamedTuple

ALLOWED = {
    "0BSD",
    "3-Clause BSD License",
    "Apache 2.0",
    "Apache License 2.0",
    "Apache Software License",
    "Apache-2.0",
    "BSD",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "ISC",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zlib",
}
"""Names of licences as packages write them, SPDX identifiers and older forms."""

REVIEWED = {
    "cleanlab": "Apache-2.0 (its metadata holds the whole text)",
    "namex": "Apache-2.0 (its licence file; its metadata names none)",
    "pytest-timeout": "MIT (its metadata says 'DFSG approved' beside it)",
    "text-unidecode": "Artistic-1.0, which is offered beside the GPL",
}
"""Packages whose metadata need a person: the licence that they are used under, and where it stands."""

OWN = "cxr-pipeline"


class Package(NamedTuple):
    """An installed package.

    Attributes:
        name: Its name.
        version: Its version.
        licence: What its metadata say, or what a person found.
    """

    name: str
    version: str
    licence: str


def is_allowed(licence: str) -> bool:
    """Return whether every licence that is named is an allowed one.

    >>> is_allowed("MPL-2.0 AND (Apache-2.0 OR MIT)")
    True
    >>> is_allowed("MIT License; GNU General Public License v3 (GPLv3)")
    False
    """
    if licence in ALLOWED:
        return True
    parts = re.split(r";| AND | OR ", licence)
    names = [part.strip() for part in parts]
    return all(name in ALLOWED or name.strip("()") in ALLOWED for name in names)


def installed() -> list[Package]:
    """Return the packages of this environment but our own, with the licences of their metadata."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    packages = [
        Package(each["Name"], each["Version"], each["License"]) for each in json.loads(done.stdout)
    ]
    return [package for package in packages if package.name != OWN]


def judge(packages: list[Package]) -> tuple[list[Package], list[Package]]:
    """Return the packages with the licence that they are used under, and those that nobody may use.

    Args:
        packages: As they are installed.
    """
    judged = []
    refused = []
    for package in packages:
        if package.name in REVIEWED:
            judged.append(package._replace(licence=REVIEWED[package.name]))
        elif is_allowed(package.licence):
            judged.append(package)
        else:
            refused.append(package)
    return judged, refused


def main() -> int:
    """List the licences; exit status 1 where one is unknown or not allowed."""
    judged, refused = judge(installed())
    for package in judged:
        print(f"{package.name} {package.version}: {package.licence}")  # noqa: T201
    for licence, count in Counter(package.licence for package in judged).most_common():
        print(f"{count:4d}  {licence}")  # noqa: T201
    for package in refused:
        words = " ".join(package.licence.split())[:100]
        message = (
            f"{package.name} {package.version}: expected an allowed licence, found {words!r}: read "
            "it, and either write it into REVIEWED (deployments/licenses.py) or do without the package"
        )
        print(message, file=sys.stderr)  # noqa: T201
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
