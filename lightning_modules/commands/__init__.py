"""One file per command of ``trellis``; ``cli.py`` imports only the one that was asked for."""
