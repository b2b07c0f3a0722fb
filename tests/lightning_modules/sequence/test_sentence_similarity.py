"""Vectors of sentences: against loops, scipy's ranks, and ratings that are learnt."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from scipy.stats import spearmanr
from torch import Tensor, nn

from trellis.datamodules.sequence import RatedSentences
from trellis.lightning_modules.sequence import SentenceSimilarity
from trellis.networks.sequence import BERT, SentenceEncoder
from trellis.networks.sequence.sentence_encoder import pooled
from trellis.sequence.tokenizer import PAD

WORDS = ("cat", "dog", "sun", "rain", "tree", "sea")


class Embedder(nn.Module):
    """The vectors of tokens by themselves."""

    def __init__(self, num_tokens: int, *, pad_id: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_tokens, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table(tokens)


def pairs(count: int, seed: int) -> str:
    """Two sentences of three words, rated by the share of words that both have."""
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for _ in range(count):
        one, other = (
            [WORDS[i] for i in torch.randperm(6, generator=generator)[:3].tolist()]
            for _ in range(2)
        )
        rating = 5 * len({*one} & {*other}) / 3
        lines.append(f"{rating:.3f}\t{' '.join(one)}\t{' '.join(other)}")
    return "\n".join(lines) + "\n"


def files(folder: Path, train: str | None = None, val: str | None = None) -> tuple[str, str]:
    names = []
    for name, text in (("train", train or pairs(200, 0)), ("val", val or pairs(60, 1))):
        (folder / f"{name}.tsv").write_text(text)
        names.append(str(folder / f"{name}.tsv"))
    return names[0], names[1]


@pytest.mark.parametrize("pool", ["mean", "first", "max"])
def test_padding_does_not_count(pool: str) -> None:
    torch.manual_seed(0)
    vectors, mask = torch.randn(4, 5, 3), torch.arange(5) < torch.tensor([[1], [3], [5], [2]])
    for row, found in zip(range(4), pooled(vectors, mask, pool), strict=True):
        kept = vectors[row, : int(mask[row].sum())]
        expected = {"mean": kept.mean(0), "first": kept[0], "max": kept.max(0).values}[pool]
        torch.testing.assert_close(found, expected)
    encoder = SentenceEncoder(
        9, pad_id=0, encoder=partial(BERT, embed_dim=8, num_heads=2, init_std=0.5), pool=pool
    ).eval()
    tokens = torch.tensor([[3, 4, 5]])
    padded = torch.nn.functional.pad(tokens, (0, 4))
    torch.testing.assert_close(encoder(padded), encoder(tokens), rtol=1e-4, atol=1e-5)


def test_an_unknown_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="pool='sum'"):
        SentenceEncoder(9, pad_id=0, pool="sum")  # type: ignore[arg-type]


def test_ratings_are_learnt_and_ranked(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    data = RatedSentences(*files(tmp_path), max_tokens=100)
    network = partial(SentenceEncoder, encoder=Embedder)
    objective = SentenceSimilarity(network, partial(torch.optim.Adam, lr=0.03))
    trainer = quiet_trainer(tmp_path, max_epochs=8)
    (before,) = quiet_trainer(tmp_path).validate(objective, datamodule=data, verbose=False)
    trainer.fit(objective, datamodule=data)
    (found,) = trainer.test(objective, datamodule=data, verbose=False)
    assert before["val/spearman"] < 0.8 < 0.9 < found["test/spearman"]
    predicted = trainer.predict(objective, datamodule=data)
    cosines = torch.cat([batch["cosine"] for batch in predicted])
    lines = (tmp_path / "val.tsv").read_text().splitlines()
    ratings = [float(line.split("\t")[0]) for line in lines]
    expected = spearmanr(cosines.tolist(), ratings).statistic
    assert found["test/spearman"] == pytest.approx(expected, abs=1e-5)
    errors = (cosines - torch.tensor(ratings) / 5) ** 2
    assert found["test/loss"] == pytest.approx(float(errors.mean()), rel=1e-4)
    (tmp_path / "new.tsv").write_text("cat dog\tdog cat\nsun sea\tcat dog\n")
    new = data.inputs(str(tmp_path / "new.tsv"), objective.spec)
    objective.requires_grad_(False)
    ((batch),) = [objective.predict_step(each, 0)["cosine"] for each in new.loader]
    assert batch[0] == pytest.approx(1, abs=1e-5)
    assert batch[1] < 0.5


def test_columns_and_headers_of_the_sts_benchmark(tmp_path: Path) -> None:
    line = "main-captions\tMSRvid\t2012test\t1\t2.500\tA plane.\tAn air plane."
    head = "genre\tfilename\tyear\tindex\tscore\tsentence1\tsentence2"
    data = RatedSentences(*files(tmp_path, f"{head}\n{line}\n", line), columns=(4, 5, 6))
    data.setup()
    ((pair, ratings),) = data.train_dataloader()
    assert ratings.tolist() == [0.5]
    texts = [data.tokenizer.decode(side[0].tolist()) for side in pair]
    assert texts == ["A plane.", "An air plane."]
    assert (pair.first != PAD).all()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("3\ta", r"train\.tsv, line 1: 2 columns, and columns=\(0, 1, 2\) are read"),
        ("3\ta\tb\nx\ta\tb", r"line 2: the rating 'x' is no number from 0 to highest=5"),
        ("3\ta\tb\n5.1\ta\tb", r"line 2: the rating '5.1' is no number from 0"),
        ("3\ta\tb\nnan\ta\tb", r"line 2: the rating 'nan' is no number from 0"),
        ("3\ta\tb\n3\t \tb", r"line 2: a sentence is empty"),
        (f"3\ta\tb\n3\ta\t{'b ' * 9}", r"line 2: a text of 11 tokens, more than max_tokens=9"),
        ("\n", r"train\.tsv is empty"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, train: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RatedSentences(*files(tmp_path, train), max_tokens=9).setup()
    data = RatedSentences(*files(tmp_path, "3\ta\tb", "3\ta\tb"))
    data.setup()
    (tmp_path / "new.tsv").write_text("a\tb\na b\n")
    with pytest.raises(ValueError, match=r"line 2: 'a b' is not two sentences and a tab"):
        data.inputs(str(tmp_path / "new.tsv"), data.spec)
