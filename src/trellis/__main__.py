"""``python -m trellis``: the ``trellis`` command."""

from trellis.lightning_modules.cli import main

if __name__ == "__main__":
    main()
