"""The lower bounds of ``setup.py`` are releases that ``make test-oldest`` truly installs."""

import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

OLDEST = Path(sys.prefix).name == ".venv-oldest"


@pytest.mark.skipif(not OLDEST, reason="only `make test-oldest` installs the lower bounds")
def test_each_requirement_is_installed_at_its_lower_bound() -> None:
    requirements = [Requirement(line) for line in metadata.requires("torch-trellis") or ()]
    bounds = {
        requirement.name: Version(bound.version)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate({"extra": "dev"})
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    # ``public`` drops a suffix as in 2.13.0+cpu.
    installed = {name: Version(Version(metadata.version(name)).public) for name in bounds}
    assert installed == bounds
