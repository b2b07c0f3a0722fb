"""``trellis export``: the model of a checkpoint for other programs, in the Hub's layout."""

import csv
from pathlib import Path
from typing import Any

import yaml

from trellis.lightning_modules.commands.checkpoint_parser import checkpoint_parser
from trellis.lightning_modules.commands.ledger import ledger, measured, shown, summary


def main(words: list[str]) -> None:
    """Write a folder with weights, programs and a model card; upload it where that is asked for.

    Raises:
        ValueError: see ``export``.
    """
    parser = checkpoint_parser("export", __doc__, "of any objective")
    parser.add_argument("--to", required=True, help="folder to write, which does not exist yet")
    parser.add_argument("--formats", default="safetensors,program,onnx",
        help="of safetensors, program (torch.export) and onnx, by default all; word2vec: a text "
        "file of vectors of words; or transformers: a GPT or BERT as Hugging Face's transformers "
        "reads it")  # fmt: skip
    parser.add_argument("--opset", type=int, help="version of ONNX's operators (torch's choice)")
    parser.add_argument("--push_to_hub", metavar="USER/NAME",
        help="upload the folder to this repository of the Hugging Face Hub, too")  # fmt: skip
    args = parser.parse_args(words[1:])
    # These imports take seconds; a wrong option is reported without them.
    from trellis.lightning_modules.commands.text_models import load_on, say
    from trellis.lightning_modules.export.folder import export

    objective = load_on(args.checkpoint, "cpu")
    folder = export(
        objective,
        args.to,
        formats=args.formats.split(","),
        opset=args.opset,
        run=run_of(args.checkpoint),
    )
    for path in sorted(folder.iterdir()):
        say("export", f"{path.stat().st_size:>12,} bytes  {path.name}")
    print(folder)
    if args.push_to_hub:
        from trellis.lightning_modules.export.hub import push_folder

        print(push_folder(folder, args.push_to_hub))


def run_of(checkpoint: str) -> Any:
    """The run in whose folder a checkpoint lies, with its rows of the ledger."""
    from trellis.lightning_modules.engine.checkpoint import read
    from trellis.lightning_modules.export.card import Run

    path = Path(checkpoint).absolute()
    folder = path.parent.parent
    data = (read(path, weights=False, rebuilt=())["trellis"].get("data") or "").rpartition(".")[2]
    if path.parent.name != "checkpoints":
        return Run(path.stem, data)
    config, name = folder / "config.yaml", folder.parent.name
    text = _without_empty(config) if config.is_file() else ""
    return Run(name, data, text, _last_metrics(folder / "metrics.csv"), _rows_of(name))


def _without_empty(config: Path) -> str:
    """The model, the data and what of the trainer was chosen."""
    whole = yaml.safe_load(config.read_text(encoding="utf-8"))
    trainer = {k: v for k, v in (whole.get("trainer") or {}).items() if v is not None}
    kept = {name: whole[name] for name in ("seed_everything", "model", "data") if name in whole}
    return yaml.safe_dump({**kept, "trainer": trainer}, sort_keys=False)


def _last_metrics(path: Path) -> dict[str, float]:
    """The last value of each metric of an evaluation."""
    if not path.is_file():
        return {}
    found: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name and name.startswith(("val/", "test/")) and value:
                    found[name] = float(value)
    return found


def _rows_of(name: str) -> list[str]:
    """Lines of the ledger for runs of this config; none if there is no row of it."""
    results = measured()
    lines = ["| result | metric | published | measured | verdict | source |", "|---" * 6 + "|"]
    for row in ledger().values():
        if Path(row.config).stem != name:
            continue
        result = results.get(row.name)
        ours = summary(result) if result else "-"
        verdict = row.verdict(result["mean"]) if result else "-"
        cells = (row.name, row.metric, shown(row.published), ours, verdict, row.source)
        lines.append(f"| {' | '.join(cells)} |")
    return lines if len(lines) > 2 else []
