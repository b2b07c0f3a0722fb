"""Small checkpoints of objectives on text, and the command line called in this process."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from trellis.lightning_modules import cli
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.networks.sequence.gpt import GPT
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.tokenizer import Tokenizer
from trellis.spec import TokenPairSpec

CONTEXT = 12


def save(objective: Objective, path: Path) -> str:
    """A checkpoint of the weights that the objective has now."""
    checkpoint = {
        "state_dict": objective.state_dict(),
        "hyper_parameters": dict(objective.hparams),
    }
    objective.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


def language_model_of(tokenizer: Tokenizer, folder: Path) -> str:
    """A checkpoint of random weights, large enough that inputs matter."""
    network = partial(GPT, context=CONTEXT, embed_dim=16, num_heads=2, num_layers=2)
    objective = CausalLM(network=network, spec=tokenizer.spec)
    torch.manual_seed(0)
    objective.configure_model()
    for parameter in objective.parameters():
        parameter.data.mul_(3)
    return save(objective, folder / "lm.ckpt")


def translator_of(
    source: Tokenizer, target: Tokenizer, folder: Path, steps: int = 0, **options: Any
) -> str:
    """A checkpoint that after 120 steps can translate word by word, each into that of its id."""
    network = partial(
        TransformerSeq2Seq, embed_dim=32, num_heads=2, num_layers=1, feedforward_dim=32,
        dropout=0.0, **options,
    )  # fmt: skip
    spec = TokenPairSpec(source.spec, target.spec)
    objective = SequenceToSequence(network=network, spec=spec, max_new_tokens=15)
    torch.manual_seed(0)
    objective.configure_model()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    for _ in range(steps):
        lengths, column = torch.randint(1, 8, (32, 1)), torch.arange(8)
        words = torch.randint(4, source.num_tokens, (32, 8))
        words = words.where(column < lengths, 0).where(column != lengths, 2)
        begun = torch.cat([torch.ones(32, 1, dtype=torch.long), words[:, :-1]], 1)
        logits = objective.network(words, begun)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=0).backward()
        optimizer.step()
    return save(objective, folder / "translator.ckpt")


def failing(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Error text of a command that must end with exit code 2, in a line or two."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    text = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(text.splitlines()) <= 2
    assert "Traceback" not in text
    return text
