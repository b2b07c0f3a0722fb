"""Several directions in one vocabulary: what a source begins with, and what is scored alone."""

import gzip
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from learning_cases import quiet_trainer

import trellis
from trellis.datamodules.sequence.multi30k import Multi30k
from trellis.datamodules.sequence.multilingual_multi30k import MultilingualMulti30k
from trellis.lightning_modules.commands.translate import main
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.lightning_modules.sequence.text_scores import TextScores
from trellis.lightning_modules.sequence.translation import Translator
from trellis.networks.sequence.recurrent_seq2seq import RecurrentSeq2Seq
from trellis.sequence.tokenizer import WordTokenizer

COUNTS = {"train": 40, "val": 6, "test_2016_flickr": 5}
NUMBERS = {
    "de": ["null", "eins", "zwei", "drei"],
    "en": ["zero", "one", "two", "three"],
    "fr": ["zéro", "un", "deux", "trois"],
}


def line(language: str, number: int) -> str:
    words = NUMBERS[language]
    return f"{words[number % 4]} {words[number // 4 % 4]} {words[number // 16 % 4]}"


@pytest.fixture
def look_alike(tmp_path: Path) -> str:
    raw = tmp_path / "multi30k" / "raw"
    raw.mkdir(parents=True)
    for name, count in COUNTS.items():
        for language in NUMBERS:
            text = "".join(f"{line(language, n)}\n" for n in range(count))
            (raw / f"{name}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return str(tmp_path)


def ready(folder: str, stage: str | None = None, **options: Any) -> MultilingualMulti30k:
    data = MultilingualMulti30k(folder, tokenizer=WordTokenizer, **options)
    data.prepare_data()
    data.setup(stage)
    return data


def test_each_direction_is_multi30k_with_a_tag(look_alike: str) -> None:
    directions = ["de-en", "en-fr", "fr-en"]
    data = ready(look_alike, directions=directions)
    tokenizer = data.texts.source
    assert tokenizer.tags == ["<2en>", "<2fr>"]
    assert data.spec.source == data.spec.target  # one vocabulary
    for split in ("train", "val", "test"):
        found = []
        for batch in data.loader(split):
            assert bool(batch.directions) == bool(batch.references) == (split != "train")
            for row, (source, target) in enumerate(zip(batch.source, batch.target, strict=True)):
                tag = tokenizer.tags[int(source[0]) - tokenizer.inner.num_tokens]
                text = tokenizer.decode(source.tolist()), tokenizer.decode(target.tolist())
                if split != "train":
                    assert batch.references[row] == text[1]
                    assert batch.directions[row].endswith(tag.strip("<2>"))
                found.append((tag, *text))
        expected = []
        for direction in directions:
            source, target = direction.split("-")
            number = next(n for name, n in COUNTS.items() if name.startswith(split))
            expected += [(f"<2{target}>", line(source, n), line(target, n)) for n in range(number)]
        assert sorted(found) == sorted(expected)


def test_one_direction_is_that_of_multi30k(look_alike: str) -> None:
    """The same pairs in the same batches, but for the tag."""
    both = ready(look_alike, directions=["de-en"])
    alone = Multi30k(look_alike, tokenizer=WordTokenizer, shared_vocabulary=True)
    alone.setup()
    for ours, theirs in zip(both.loader("test"), alone.loader("test"), strict=True):
        assert ours.source[:, 1:].equal(theirs.source)
        assert ours.target.equal(theirs.target)
        assert ours.references == theirs.references
        assert set(ours.directions) == {"de-en"}


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ([], "give each once, and at least one"),
        (["de-en", "de-en"], "give each once"),
        (["de-de"], "'de-de' is from a language to itself"),
        (["de-es"], "'de-es'"),
        (["de"], "'de'"),
    ],
)
def test_impossible_directions_are_named(directions: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultilingualMulti30k(directions=directions)


def test_scores_of_each_direction_are_sacrebleus() -> None:
    said = ["a dog runs fast now", "ein hund rennt schnell weg", "two dogs run very fast"]
    known = ["a dog runs fast now", "ein hund läuft schnell weg", "two dogs are very fast"]
    ways = ["de-en", "en-de", "de-en"]
    metric = TextScores()
    metric.update(said, known, ways)
    found = {name: float(value) for name, value in metric.compute().items()}
    for name, chosen in (("", [0, 1, 2]), ("_de-en", [0, 2]), ("_en-de", [1])):
        mine, true = ([texts[i] for i in chosen] for texts in (said, known))
        assert found[f"bleu{name}"] == pytest.approx(sacrebleu.corpus_bleu(mine, [true]).score)
        assert found[f"chrf{name}"] == pytest.approx(sacrebleu.corpus_chrf(mine, [true]).score)
    assert len(found) == 6


def trained(look_alike: str, tmp_path: Path) -> SequenceToSequence:
    """Writes the numbers of the line in the language that its tag names."""
    torch.manual_seed(0)
    network = partial(RecurrentSeq2Seq, embed_dim=16, hidden_size=32, dropout=0.0)
    adam = partial(torch.optim.Adam, lr=0.02)
    objective = SequenceToSequence(network, adam, max_new_tokens=8)
    data = MultilingualMulti30k(
        look_alike, directions=("en-de", "en-fr"), tokenizer=WordTokenizer, max_tokens=96
    )
    trainer = quiet_trainer(tmp_path, max_epochs=15)
    trainer.fit(objective, data)
    [result] = trainer.test(objective, data, verbose=False)
    assert result["test/chrf_en-de"] > 90 < result["test/chrf_en-fr"]  # BLEU wants 4 words
    return objective.eval()


def test_a_tag_chooses_the_language_and_a_mixture_lies_between(
    look_alike: str, tmp_path: Path
) -> None:
    model = trained(look_alike, tmp_path)
    lines = ["one two zero", "three zero one"]
    expected = {
        "de": ["eins zwei null", "drei null eins"],
        "fr": ["un deux zéro", "trois zéro un"],
    }

    def texts(to: dict[str, float] | None, lines: list[str] = lines) -> list[str]:
        return [each.text for each in Translator(model, num_beams=1, to=to)(lines)]

    for language, want in expected.items():
        tag = f"<2{language}>"
        assert texts({tag: 1.0}) == texts(None, [f"{tag} {text}" for text in lines]) == want
    assert texts({"<2de>": 0.0, "<2fr>": 1.0}) == expected["fr"]
    between = texts({"<2de>": 0.5, "<2fr>": 0.5})
    assert set(" ".join(between).split()) <= {*NUMBERS["de"], *NUMBERS["fr"]}
    assert texts({"<2de>": 1.0}) == expected["de"]  # nothing is left of the mixture
    with pytest.raises(ValueError, match="'<2es>' was not learnt: give one of <2de>, <2fr>"):
        texts({"<2es>": 1.0})

    model.trainer.save_checkpoint(tmp_path / "both.ckpt")
    (said,) = Translator(trellis.load(tmp_path / "both.ckpt"), num_beams=1)(["<2fr> two one two"])
    assert said.text == "deux un deux"
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    paths = [str(tmp_path / name) for name in ("both.ckpt", "lines.txt")]
    main(["translate", *paths, "--to", "<2fr>", "--output", str(tmp_path / "said.txt")])
    assert (tmp_path / "said.txt").read_text().splitlines() == expected["fr"]
    with pytest.raises(ValueError, match="'half' is no number, write <2de>=0.5"):
        main(["translate", *paths, "--to", "<2de>=half"])


def test_a_model_of_one_direction_has_no_tags(look_alike: str) -> None:
    data = Multi30k(look_alike, tokenizer=WordTokenizer)
    data.setup()
    network = partial(RecurrentSeq2Seq, embed_dim=4, hidden_size=4)
    objective = SequenceToSequence(network, torch.optim.Adam, spec=data.spec)
    objective.configure_model()
    with pytest.raises(ValueError, match="to=<2en>: the model translates in one direction only"):
        Translator(objective, to={"<2en>": 1.0})
