"""Lay out the import tree as links, for type checkers: ``.types/trellis``.

An editable install maps ``trellis.lightning_modules`` and ``trellis.datamodules`` by an import
hook that static tools cannot follow.
"""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the tree anew, so that removed files leave it."""
    tree = ROOT / ".types" / "trellis"
    shutil.rmtree(tree.parent, ignore_errors=True)
    tree.mkdir(parents=True)
    rooms = [
        *(ROOT / "src" / "trellis").iterdir(),
        ROOT / "lightning_modules",
        ROOT / "datamodules",
    ]
    for entry in rooms:
        if entry.name != "__pycache__":
            (tree / entry.name).symlink_to(entry)


if __name__ == "__main__":
    main()
