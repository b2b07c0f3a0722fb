"""The extra of trellis that brings a package whose absence an error tells of."""

import re
from importlib.metadata import PackageNotFoundError, requires

# As Python and Lightning say it.
_MISSING = re.compile(
    r"No module named '(\w+)|import of (\w+) halted|Requirement '(\w+)[^']*' not met"
)
_EXTRA = re.compile(r"""^([\w-]+).*;.*extra == ["'](\w+)["']""")


def missing_extra(text: str) -> str | None:
    """What to install, in one line; ``None`` if no extra of trellis brings what is missing.

    Args:
        text: of an error.

    >>> missing_extra("No module named 'wandb'")
    "it needs wandb: pip install 'torch-trellis[wandb]'"
    """
    extras = _extras()
    for found in _MISSING.findall(text):
        package = next(filter(None, found))
        extra = package if package in extras.values() else extras.get(package)
        if extra is not None:  # mlflow comes as mlflow-skinny: the extra has its name
            return f"it needs {package}: pip install 'torch-trellis[{extra}]'"
    return None


def _extras() -> dict[str, str]:
    """Package -> the extra that is named for what it brings."""
    try:
        lines = requires("torch-trellis") or []
    except PackageNotFoundError:  # run from its sources
        return {}
    found: dict[str, str] = {}
    for line in lines:
        match = _EXTRA.match(line)
        if match is not None and match[2] not in ("all", "dev"):  # which gather the others
            found[match[1].replace("-", "_")] = match[2]
    return found
