"""Fine-tuning in two commands: a part of one model's weights in another, frozen or slower."""

import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from trellis.lightning_modules import cli

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
         "--trainer.max_epochs=1"]  # fmt: skip
CODES = ["fit", "--model", "Autoencoder", "--model.network", "MLPAutoencoder",
         "--model.network.hidden_channels=[32]", "--model.network.latent_dim=8",
         "--model.network.code_activation=relu", "--data", "Digits", *QUIET]  # fmt: skip
DIGITS = ["fit", "--model", "Classification", "--model.network", "MLP",
          "--model.network.hidden_channels=[32,8]", "--data", "Digits", *QUIET]  # fmt: skip
MAP = "{network.encoder.0: network.layers.0, network.encoder.1: network.layers.2}"
BODY = ["--model.network.embed_dim=8", "--model.network.num_heads=2",
        "--model.network.num_layers=1", "--model.network.max_length=32"]  # fmt: skip
SENTENCES = ["ann sees bob .", "bob sees ann .", "ann hears cleo .", "cleo sees bob ."]


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "raiseExceptions", False)


def fit(*words: str) -> Path:
    """The last checkpoint of a run."""
    before = {*Path().rglob("last.ckpt")}
    cli.main(list(words))
    (path,) = {*Path().rglob("last.ckpt")} - before
    return path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    text = capsys.readouterr().err
    assert stop.value.code == 2
    assert "Traceback" not in text
    return text


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path)["state_dict"]


def groups(path: Path) -> list[dict]:
    return torch.load(path)["optimizer_states"][0]["param_groups"]


def callback(**options: object) -> list[str]:
    given = [{"class_path": "ParameterGroups", "init_args": options}]
    return ["--trainer.callbacks", json.dumps(given)]


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("codes"))
        return fit(*CODES).absolute()


def test_an_autoencoder_becomes_a_frozen_part_of_a_classifier(codes: Path) -> None:
    path = fit(*DIGITS, "--init_from", str(codes), "--init_map", MAP,
               *callback(frozen=["network.layers.0", "network.layers.2"]))  # fmt: skip
    source, own = weights(codes), weights(path)
    for there, here in (("encoder.0", "layers.0"), ("encoder.1", "layers.2")):
        for name in ("weight", "bias"):
            assert torch.equal(own[f"network.{here}.{name}"], source[f"network.{there}.{name}"])
    assert own["network.layers.4.weight"].std() > 0, "the new layer learns"


def test_without_freezing_the_part_learns_at_its_own_rate(codes: Path) -> None:
    words = [*DIGITS, "--init_from", str(codes), "--init_map", MAP, "--model.optimizer=SGD",
             "--model.optimizer.lr=0.1"]  # fmt: skip
    slow = fit(*words, *callback(learning_rates={"network.layers.0": 1e-8}))
    source, own = weights(codes), weights(slow)
    assert sorted(group["lr"] for group in groups(slow)) == [1e-8, 0.1]
    torch.testing.assert_close(
        own["network.layers.0.weight"], source["network.encoder.0.weight"], atol=1e-6, rtol=0
    )
    moved = own["network.layers.2.weight"] - source["network.encoder.1.weight"]
    assert moved.abs().max() > 1e-3


@pytest.mark.long
def test_a_resumed_run_keeps_its_groups(codes: Path) -> None:
    parts = callback(frozen=["network.layers.2"], learning_rates={"network.layers.0": 1e-3})
    begun = fit(*DIGITS, "--init_from", str(codes), "--init_map", MAP, *parts)
    whole = fit(*DIGITS, "--init_from", str(codes), "--init_map", MAP, *parts,
                "--trainer.max_epochs=2")  # fmt: skip
    resumed = fit("fit", "--ckpt_path", str(begun), "--trainer.max_epochs=2")
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed).items())
    assert [group["lr"] for group in groups(resumed)] == [group["lr"] for group in groups(whole)]


@pytest.mark.long
def test_a_pretrained_encoder_becomes_a_tagger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("text.txt").write_text("\n".join(SENTENCES * 12))
    tags = {"ann": "NAME", "bob": "NAME", "cleo": "NAME", "sees": "VERB", "hears": "VERB"}
    rows = ["\n".join(f"{w} {tags.get(w, 'END')}" for w in s.split()) for s in SENTENCES]
    for name in ("train", "val"):
        Path(f"{name}.conll").write_text("\n\n".join(reversed(rows)) + "\n")
    source = fit("fit", "--model", "MaskedLM", "--model.network", "BertPretraining", *BODY,
                 "--data", "SentenceOrder", "--data.path", "text.txt",
                 "--data.max_length=16", *QUIET)  # fmt: skip
    tagger = ["fit", "--model", "Tagging", "--model.network", "BertTagger", *BODY, "--data",
              "CoNLL", "--data.train", "train.conll", "--data.val", "val.conll", *QUIET,
              "--init_from", str(source),
              "--init_map", "{network.body: network.body}"]  # fmt: skip
    same = ["--data.tokenizer", "SavedTokenizer", "--data.tokenizer.path", str(source)]
    path = fit(*tagger, *same, *callback(frozen=["network.body"]))
    old, new = weights(source), weights(path)
    body = [name for name in new if name.startswith("network.body.")]
    assert len(body) > 10
    assert all(torch.equal(new[name], old[name]) for name in body)
    cli.main(["test", str(path)])  # the vocabulary is found again
    capsys.readouterr()
    text = refused(capsys, *tagger)
    assert "size" in text or "vocabulary" in text or "is [" in text


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ("{network.encodr: network.layers}", "nothing under network.encodr; did you mean"),
        ("{network.encoder.0: network.layer.0}", "did you mean network.layers.0?"),
        ("{network.encoder.0: network.layers.2}", "is [32, 64], network.layers.2"),
        ("{network.encoder: network.layers}", "has no network."),
    ],
)
def test_what_does_not_match_is_named(
    parts: str, told: str, codes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, *DIGITS, "--init_from", str(codes), "--init_map", parts)


@pytest.mark.long
def test_a_map_without_weights_and_unknown_parts_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "init_from" in refused(capsys, *DIGITS, "--init_map", MAP)
    text = refused(capsys, *DIGITS, *callback(frozen=["network.layer"]))
    assert "no parameters under network.layer; did you mean network.layers" in text
    assert "all parameters are frozen" in refused(capsys, *DIGITS, *callback(frozen=["network"]))
    cycle = ["--model.lr_scheduler=OneCycleLR", "--model.lr_scheduler.max_lr=0.1",
             "--model.lr_scheduler.total_steps=100"]  # fmt: skip
    rates = callback(learning_rates={"network.layers.0": 1e-3})
    assert "OneCycleLR gives all" in refused(capsys, *DIGITS, *cycle, *rates)
