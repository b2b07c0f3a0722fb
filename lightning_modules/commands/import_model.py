"""``trellis import``: a GPT-2 or BERT of Hugging Face's ``transformers`` as a checkpoint."""

from argparse import ArgumentParser
from pathlib import Path


def main(words: list[str]) -> None:
    """Write a checkpoint for ``trellis generate``, ``predict``, ``export`` and ``--init_from``.

    Raises:
        FileNotFoundError, OSError, ValueError: see ``read_transformers``; ``--to`` exists.
    """
    parser = ArgumentParser(prog="trellis import", description=__doc__)
    parser.add_argument("kind", choices=("gpt2", "bert"), help="architecture of the checkpoint")
    parser.add_argument("folder", help="that save_pretrained of transformers wrote")
    parser.add_argument("--to", required=True, help="checkpoint to write, such as gpt2.ckpt")
    parser.add_argument("--mask_id", type=int, help="of [MASK], for a BERT without tokenizer.json")
    args = parser.parse_args(words[1:])
    if Path(args.to).exists():
        raise ValueError(f"{args.to} already exists: give another file, or move it")
    # These imports take seconds; a wrong option is reported without them.
    from trellis.lightning_modules.commands.text_models import say
    from trellis.lightning_modules.engine.checkpoint_file import save_objective
    from trellis.lightning_modules.export.transformers_folder import read_transformers

    objective = read_transformers(args.folder, args.kind, args.mask_id)
    save_objective(objective, args.to)
    network = objective.hparams["network"]
    options = " ".join(f"{name}={value}" for name, value in network["init_args"].items())
    name = network["class_path"].rpartition(".")[2]
    count = sum(p.numel() for p in objective.network.parameters())
    say("import", f"{type(objective).__name__} of {count:,} parameters: {name} {options}")
    print(args.to)
