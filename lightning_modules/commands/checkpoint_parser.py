"""The arguments of the commands that use a checkpoint."""

from argparse import ArgumentParser


def checkpoint_parser(command: str, description: str | None, holds: str) -> ArgumentParser:
    """A parser with the arguments ``checkpoint`` and ``--device``.

    Args:
        command: its name.
        description: of the command.
        holds: what the checkpoint has to be of.
    """
    parser = ArgumentParser(prog=f"trellis {command}", description=description)
    parser.add_argument("checkpoint", help=holds)
    device = "cpu, cuda or another of torch's (cpu)"
    parser.add_argument("--device", default="cpu", help=device)
    return parser
