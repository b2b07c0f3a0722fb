"""``trellis generate``: what it writes, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
from text_checkpoints import CONTEXT, failing, language_model_of, translator_of
from torch import Tensor

from trellis import load
from trellis.lightning_modules import cli
from trellis.networks.sequence.gpt import GPT
from trellis.sequence.tokenizer import CharTokenizer, WordTokenizer
from trellis.spec import TokenSpec

CHARACTERS = CharTokenizer(["to be, or\nnot to be"])


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return language_model_of(CHARACTERS, tmp_path)


def written(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main(["generate", *words])
    return capsys.readouterr().out


def test_the_prompt_is_continued_past_the_context(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Temperature 0 takes the most probable token after the last ``context`` ones."""
    text = written(
        capsys, checkpoint, "--prompt", "to be", "--max_new_tokens", "40", "--temperature", "0"
    )
    network = load(checkpoint).network
    ids = CHARACTERS.encode("to be")
    with torch.no_grad():
        for _ in range(40):
            ids.append(int(network(torch.tensor([ids[-CONTEXT:]]))[0][0, -1].argmax()))
    assert text == CHARACTERS.decode(ids) + "\n"
    assert len(set(text)) > 2


def test_a_seed_gives_the_same_text(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [checkpoint, "--prompt", "or", "--max_new_tokens", "60"]
    texts = [written(capsys, *options, "--seed", seed) for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("or") and len(text) == 2 + 60 + 1 for text in texts)


def test_samples_are_numbered_and_differ(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = written(capsys, checkpoint, "--prompt", "be", "--num", "3", "--max_new_tokens", "30")
    parts = text.split("--- ")[1:]
    assert [part[:7] for part in parts] == ["1 of 3\n", "2 of 3\n", "3 of 3\n"]
    assert len({part[7:] for part in parts}) == 3


def test_top_k_and_top_p_reach_the_sampler(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [checkpoint, "--prompt", "be", "--max_new_tokens", "30"]
    greedy = written(capsys, *options, "--temperature", "0")
    assert written(capsys, *options, "--top_k", "1") == greedy
    assert written(capsys, *options, "--top_p", "0.000001") == greedy
    assert written(capsys, *options, "--min_p", "1") == greedy
    assert written(capsys, *options) != greedy


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_no_two_characters_follow_each_other_twice(
    temperature: str, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--prompt", "be", "--max_new_tokens", "30", "--temperature", temperature]
    text = written(capsys, checkpoint, *options)[:32]
    once = written(capsys, checkpoint, *options, "--no_repeat_ngram_size", "2")[:32]
    assert len({*zip(text, text[1:], strict=False)}) < 31
    assert len({*zip(once, once[1:], strict=False)}) == 31


def test_without_a_prompt_a_line_begins(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [checkpoint, "--max_new_tokens", "20", "--temperature", "0"]
    after_a_break = written(capsys, *options, "--prompt", "\n")
    assert written(capsys, *options) == after_a_break.removeprefix("\n")


def test_without_a_prompt_or_a_line_break_bos_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WordTokenizer(["to be or not to be that is the question"])
    path = language_model_of(words, tmp_path)
    text = written(capsys, path, "--max_new_tokens", "9", "--seed", "3").split()
    assert 0 < len(text) <= 9
    assert set(text) <= set(words.words)
    other = language_model_of(CharTokenizer(["abc"]), tmp_path)
    assert "no line break to start from: give --prompt" in failing(capsys, "generate", other)


def test_no_special_token_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding would drop special tokens, and the text would be too short."""
    words = WordTokenizer(["to be or not to be that is the question"])
    path = language_model_of(words, tmp_path)
    forward = GPT.forward

    def in_love_with_padding(self: GPT, *args: Any) -> Any:
        logits, state = forward(self, *args)
        logits[..., [0, 1, 3]] += 100  # padding, beginning, unknown
        logits[..., 2] -= 100
        return logits, state

    monkeypatch.setattr(GPT, "forward", in_love_with_padding)
    for temperature in ("0", "1"):
        text = written(
            capsys, path, "--prompt", "to", "--max_new_tokens", "20", "--temperature", temperature
        )
        assert len(text.split()) == 21
        assert set(text.split()) <= set(words.words)


def test_a_text_may_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = language_model_of(WordTokenizer(["to be or not to be"]), tmp_path)
    forward = GPT.forward

    def brief(self: GPT, tokens: Tensor, state: Any) -> Any:
        logits, state = forward(self, tokens, state)
        logits[..., 2] += 100 if state[0].keys.size(2) == 4 else -100
        return logits, state

    monkeypatch.setattr(GPT, "forward", brief)
    assert len(written(capsys, path, "--prompt", "to be").split()) == 4


# --- refusals ------------------------------------------------------------------------------------


def test_unknown_characters_are_named(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = failing(capsys, "generate", checkpoint, "--prompt", "to bé")
    assert "prompt: character 'é' at position 4" in text


def test_unknown_words_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = language_model_of(WordTokenizer(["to be or not to be"]), tmp_path)
    cli.main(["generate", path, "--prompt", "to swim or to fly or swim", "--max_new_tokens", "5"])
    captured = capsys.readouterr()
    assert "not in the vocabulary: 'swim', 'fly'\n" in captured.err
    assert captured.out.startswith("to or to or")


def test_a_prompt_of_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = language_model_of(WordTokenizer(["to be or not to be"]), tmp_path)
    assert "has no token of this vocabulary" in failing(capsys, "generate", path, "--prompt", "  ")


def test_another_objective_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = WordTokenizer(["to be or not to be"])
    path = translator_of(words, words, tmp_path)
    text = failing(capsys, "generate", path)
    assert f"{path} holds SequenceToSequence, which cannot generate: give a CausalLM" in text


def test_tokens_that_are_no_text_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Numbers:
        spec = TokenSpec(num_tokens=9)

    path = language_model_of(Numbers(), tmp_path)  # type: ignore[arg-type]
    assert "trained on tokens that are not text" in failing(capsys, "generate", path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_new_tokens", "0"], "max_new_tokens=0: give at least 1"),
        (["--temperature", "-1"], "temperature=-1.0: give more than 0"),
        (["--top_k", "0"], "top_k=0: give at least 1"),
        (["--num_samples", "0"], "num=0: give at least 1"),
        (["--device", "abacus"], "device=abacus"),
        (["--output", "a.png"], "--output is not an option of the CausalLM in"),
        (["--label", "3"], "--label is not an option of the CausalLM in"),
    ],
)
def test_impossible_options_are_named(
    checkpoint: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in failing(capsys, "generate", checkpoint, *options)


def test_a_missing_checkpoint_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no checkpoint nowhere.ckpt" in failing(capsys, "generate", "nowhere.ckpt")
