"""Weights of another run to start from: all of them, or parts under other names."""

from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn

from trellis.hyperparameters import to_plain
from trellis.index import did_you_mean
from trellis.lightning_modules.engine.checkpoint import read
from trellis.lightning_modules.engine.grouped_parameters import is_under, prefixes_of
from trellis.lightning_modules.engine.sharding import load_whole
from trellis.sequence.tokenizer import from_json
from trellis.spec import same_tokens, tokenizers_in


class InitialWeights(Callback):
    """Loads weights before the first step, and nothing else.

    Args:
        path: checkpoint to take them from.
        parts: prefix of names there -> prefix of names here; ``None`` takes all, under their own
            names. Every tensor under both prefixes must have its counterpart.
    """

    def __init__(self, path: str | Path, parts: Mapping[str, str] | None = None) -> None:
        self.path, self.parts = path, parts

    @classmethod
    def asked_for(
        cls,
        path: str | Path | None,
        parts: Mapping[str, str] | None,
        ckpt_path: str | Path | None,
    ) -> "list[InitialWeights]":
        """The callback for these arguments of ``Trainer.fit``, if there is to be one.

        Raises:
            ValueError: they exclude each other.
        """
        if path is None and parts is not None:
            raise ValueError("init_map says which weights of init_from are taken: give both")
        if path is not None and ckpt_path is not None:
            raise ValueError("ckpt_path resumes a run, init_from starts a new one: give one")
        return [] if path is None else [cls(path, parts)]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        checkpoint = read(self.path, rebuilt=())
        weights: dict[str, Tensor] = checkpoint["state_dict"]
        if self.parts is not None:
            weights = self._renamed(weights, pl_module.state_dict())
        self._require_vocabulary(checkpoint, pl_module, weights)
        try:
            load_whole(pl_module, weights, strict=self.parts is None)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip()
            raise ValueError(f"init_from={self.path}: its weights do not fit: {first}") from None
        if self.parts is not None:
            given = ", ".join(f"{here} from {there}" for there, here in self.parts.items())
            total = len(pl_module.state_dict())
            rank_zero_info(
                f"init_from={self.path}: {len(weights)} of {total} tensors, {given}; the others "
                f"as they were initialised"
            )

    def _renamed(
        self, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The weights that are taken, under the names that they have here."""
        taken: dict[str, Tensor] = {}
        for there, here in (self.parts or {}).items():
            found, wanted = _under(there, weights), _under(here, own)
            for prefix, names, all_names, whose in (
                (there, found, weights, str(self.path)),
                (here, wanted, own, "the model"),
            ):
                if not names:
                    hint = did_you_mean(prefix, prefixes_of(all_names), cutoff=0.3)
                    raise ValueError(
                        f"init_map {there}: {here}: {whose} has nothing under {prefix}{hint}"
                    )
            lacking = wanted.keys() - found.keys()
            if other := sorted(found.keys() ^ wanted.keys()):
                whose = f"{self.path} has no" if other[0] in lacking else "the model has no"
                prefix = there if other[0] in lacking else here
                raise ValueError(f"init_map {there}: {here}: {whose} {prefix}{other[0]}")
            for rest, name in wanted.items():
                value, mine = weights[found[rest]], own[name]
                if value.shape != mine.shape:
                    raise ValueError(
                        f"init_map {there}: {here}: {there}{rest} is {list(value.shape)}, "
                        f"{name} is {list(mine.shape)}"
                    )
                taken[name] = value
        return taken

    def _require_vocabulary(
        self, checkpoint: dict[str, Any], module: nn.Module, weights: Mapping[str, Tensor]
    ) -> None:
        """Refuse embeddings of the tokens of another vocabulary."""
        theirs = list(tokenizers_in(checkpoint.get("hyper_parameters", {}).get("spec")))
        spec = getattr(module, "spec", None)
        ours = list(tokenizers_in(to_plain(spec) if is_dataclass(spec) else None))
        if not theirs or not ours or any(same_tokens(a, b) for a in theirs for b in ours):
            return
        sizes = {from_json(text).num_tokens for text in theirs}
        for name, part in module.named_modules():
            of_tokens = isinstance(part, nn.Embedding) and part.num_embeddings in sizes
            if of_tokens and f"{name}.weight" in weights:
                raise ValueError(
                    f"init_from={self.path}: {name} has the tokens of another vocabulary; let the "
                    f"data use that one, with --data.tokenizer SavedTokenizer "
                    f"--data.tokenizer.path {self.path}"
                )


def _under(prefix: str, names: Iterable[str]) -> dict[str, str]:
    """What follows the prefix in names -> the whole names."""
    return {name[len(prefix) :]: name for name in names if is_under(name, prefix)}
