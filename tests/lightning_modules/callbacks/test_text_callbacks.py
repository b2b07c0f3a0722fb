"""Alignments, translations and sampled text of a run, compared with its objective's own."""

import csv
import sys
from functools import partial

import numpy as np
import pytest
import torch
from short_runs import run

from trellis.datamodules.sequence.cmudict import CMUDict
from trellis.datamodules.sequence.copy_reverse import CopyReverse
from trellis.datamodules.sequence.tiny_shakespeare import TinyShakespeare
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.callbacks import text
from trellis.lightning_modules.callbacks.text import Alignments, SampledText, Translations
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.sequence.decoding import greedy_search, language_model
from trellis.spec import TokenPairSpec, TokenSpec

torch.set_num_threads(1)
SMALL = partial(RecurrentSeq2Seq, embed_dim=8, hidden_size=8)


def reverse(**options) -> CopyReverse:
    options = {"num_symbols": 5, "length": 6, "min_length": 3, "num_val": 7, **options}
    return CopyReverse(num_train=32, num_test=4, batch_size=4, **options)


def seq2seq(network=SMALL) -> SequenceToSequence:
    return SequenceToSequence(network, max_new_tokens=8)


def table(trainer, name: str) -> list[list[str]]:
    path = trainer.run_dir / "pictures" / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.fixture
def drawn(monkeypatch):
    """The logged figures by name."""
    figures, log = {}, text.log_picture

    def keep(trainer, name, figure):
        figures[name] = figure
        log(trainer, name, figure)

    monkeypatch.setattr(text, "log_picture", keep)
    return figures


@pytest.mark.long
@pytest.mark.parametrize("network", [SMALL, partial(TransformerSeq2Seq, embed_dim=8, num_heads=2)])
def test_alignments_of_the_first_pairs_without_their_padding(tmp_path, drawn, network):
    model, data = seq2seq(network), reverse()
    trainer = run(tmp_path, model, data, Alignments(num_pictures=5))
    pairs = []
    for batch in data.val_dataloader():  # of 4 and 3 pairs
        pairs += zip(batch.source, batch.target, strict=True)
    assert list(drawn) == [f"val/alignment_{i}" for i in range(1, 6)]
    model.eval()
    lengths = set()
    for (source, target), figure in zip(pairs, drawn.values(), strict=False):
        source, target = source[source != 0], target[target != 0]
        lengths.add(len(source))
        with torch.no_grad():
            [weights] = model.network.alignments(source[None], target[None, :-1])
        axes = figure.axes[0]
        np.testing.assert_allclose(axes.images[0].get_array(), weights, atol=1e-5)
        names = [
            [label.get_text() for label in labels]
            for labels in (axes.get_xticklabels(), axes.get_yticklabels())
        ]
        symbols = [str(token - 4) for token in source[:-1].tolist()]
        assert names == [[*symbols, "<eos>"], [*symbols[::-1], "<eos>"]]
    assert len(lengths) > 1  # some had padding
    assert (trainer.run_dir / "pictures/val/alignment_5.png").stat().st_size > 5_000


def test_translations_stand_beside_their_sources_and_references(tmp_path):
    model, data = seq2seq(), reverse()
    trainer = run(tmp_path, model, data, Translations(num_rows=6))
    header, *rows = table(trainer, "val/translations")
    assert header == ["source", "reference", "translation"]
    assert len(rows) == 6
    first, second = data.val_dataloader()
    model.eval()
    written = model.predict_step(first, 0) + model.predict_step(second, 0)
    assert [row[2] for row in rows] == written[:6]
    assert all(row[1] == row[0][::-1] != "" for row in rows)


def test_all_pronunciations_of_a_word_are_shown(tmp_path):
    (tmp_path / "cmudict").mkdir()
    lines = (f"{a}{b} {a} {b}\n{a}{b}(2) {b}\n" for a in "abcdefgh" for b in "abcdefgh")
    (tmp_path / "cmudict" / "cmudict.dict").write_text("".join(lines))
    model, data = seq2seq(), CMUDict(str(tmp_path))
    trainer = run(tmp_path, model, data, Translations(num_rows=2))
    _, *rows = table(trainer, "val/translations")
    assert [row[1] for row in rows] == [f"{a} {b}, {b}" for a, b in (row[0] for row in rows)]


class WithoutTokenizer(CopyReverse):
    """Symbols that are not text."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        tokens = TokenSpec(self.spec.source.num_tokens, 0, 1, 2, 3)
        self.spec = TokenPairSpec(tokens, tokens)


def test_what_is_no_text_is_shown_as_numbers(tmp_path, drawn):
    data = WithoutTokenizer(num_train=8, num_val=3, num_test=3, length=2, batch_size=4)
    callbacks = Translations(), Alignments()
    trainer = run(tmp_path, seq2seq(), data, *callbacks)
    [batch] = data.val_dataloader()
    _, *rows = table(trainer, "val/translations")
    expected = [" ".join(str(i) for i in row[:-1]) for row in batch.source.tolist()]
    assert [row[0] for row in rows] == expected
    labels = drawn["val/alignment_1"].axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [*expected[0].split(), "<eos>"]


@pytest.fixture
def letters(tmp_path) -> TinyShakespeare:
    path = tmp_path / "letters.txt"
    path.write_text("abc\n" * 100, encoding="utf-8")
    return TinyShakespeare(path=str(path), context=8, batch_size=4)


@pytest.mark.parametrize("top_k", [1, None])
def test_sampled_text_goes_on_from_the_prompt(tmp_path, letters, top_k):
    model = CausalLM(partial(RecurrentLM, embed_dim=8, hidden_size=8))
    callback = SampledText(prompt="ab", num_rows=3, max_new_tokens=20, top_k=top_k)
    trainer = run(tmp_path, model, letters, callback)
    header, *rows = table(trainer, "sampled_text")
    assert header == ["prompt", "text"]
    assert [row[0] for row in rows] == ["ab"] * 3
    assert all(len(row[1]) == 20 for row in rows)
    prompt = torch.tensor([letters.tokenizer.encode("ab")])
    best = greedy_search(
        language_model(model.network.eval()), prompt, eos_id=None, max_new_tokens=20
    )
    likely = letters.tokenizer.decode(best.best()[0])
    assert ({row[1] for row in rows} == {likely}) == (top_k == 1)


def test_sampled_text_is_the_same_each_time_but_for_its_seed(tmp_path, letters):
    def texts(**options):
        callback = SampledText("a", num_rows=2, max_new_tokens=30, **options)
        model = CausalLM(partial(RecurrentLM, embed_dim=8, hidden_size=8))
        return table(run(tmp_path, model, letters, callback), "sampled_text")

    assert texts() == texts() != texts(seed=1)
    assert texts() != texts(temperature=0.3)


def test_texts_leave_no_trace_in_the_run(tmp_path):
    plain = run(tmp_path, seq2seq(), reverse())
    shown = run(tmp_path, seq2seq(), reverse(), Alignments(), Translations())
    states = [
        torch.load(t.run_dir / "checkpoints/last.ckpt", weights_only=True) for t in (plain, shown)
    ]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
    before, after = (state["trellis_random_states"]["ranks"][0] for state in states)
    assert torch.equal(before["torch"], after["torch"])
    assert all(module.training for module in shown.lightning_module.network.modules())


def test_a_trial_run_shows_nothing(tmp_path, letters, drawn):
    run(tmp_path, seq2seq(), reverse(), Alignments(), Translations(), fast_dev_run=True)
    model = CausalLM(partial(RecurrentLM, embed_dim=8, hidden_size=8))
    run(tmp_path, model, letters, SampledText(), fast_dev_run=True)
    assert not drawn
    assert not list(tmp_path.rglob("pictures"))


def test_without_validation_nothing_is_shown(tmp_path, drawn):
    options = {"limit_val_batches": 0, "enable_checkpointing": False}
    trainer = run(tmp_path, seq2seq(), reverse(), Alignments(), Translations(), **options)
    assert not drawn
    assert table(trainer, "val/translations") == [["source", "reference", "translation"]]


class NoAlignments(torch.nn.Module):
    """An encoder-decoder in form only."""

    def __init__(self, source_tokens, target_tokens, source_pad_id, target_pad_id) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, source, target): ...


@pytest.mark.parametrize(
    ("callback", "model", "data", "match"),
    [
        (Alignments, Classification, Digits, "works with SequenceToSequence, not with Classif"),
        (Translations, Classification, Digits, "Translations works with SequenceToSequence"),
        (SampledText, Classification, Digits, "SampledText works with CausalLM"),
        (Alignments, partial(seq2seq, NoAlignments), reverse, "which NoAlignments does not have"),
        (Alignments, partial(seq2seq, partial(SMALL, attention=None)), reverse,
         "no alignments: choose an attention"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_refused_before_training(tmp_path, callback, model, data, match):
    with pytest.raises(ValueError, match=match):
        run(tmp_path, model(), data(), callback())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_prompt_must_be_text_of_the_data(tmp_path, letters):
    for prompt, match in (("", r"prompt=''\): give a text"), ("x", "character 'x' at position 0")):
        with pytest.raises(ValueError, match=match):
            run(tmp_path, CausalLM(RecurrentLM), letters, SampledText(prompt))
    with pytest.raises(ValueError, match="temperature=0"):
        run(tmp_path, CausalLM(RecurrentLM), letters, SampledText(temperature=0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(Alignments, 0), "num_pictures=0"),
        (partial(Translations, 0), "num_rows=0"),
        (partial(SampledText, num_rows=0), "num_rows=0"),
        (partial(SampledText, max_new_tokens=0), "max_new_tokens=0"),
    ],
)
def test_counts_are_at_least_one(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_missing_matplotlib_is_found_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"torch-trellis\[viz\]"):
        run(tmp_path, seq2seq(), reverse(), Alignments())
