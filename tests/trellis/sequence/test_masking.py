"""Hidden tokens: how many, which, and what stands in their place."""

import pytest
import torch

from trellis.sequence.masking import IGNORED, mask_tokens

PAD, BOS, EOS, UNKNOWN, MASK = SPECIALS = range(5)
NUM_TOKENS = 25


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def text(num_sequences: int = 2000, length: int = 40) -> torch.Tensor:
    """Sequences from bos to eos and padding, with 0 to ``length - 2`` ordinary tokens."""
    tokens = torch.randint(len(SPECIALS), NUM_TOKENS, (num_sequences, length), generator=seeded(1))
    end = torch.randint(1, length, (num_sequences, 1), generator=seeded(2))
    column = torch.arange(length)
    tokens = tokens.where(column < end, PAD).where(column != end, EOS)
    tokens[:, 0] = BOS
    return tokens


def masked(tokens, **options):
    options = {"special_ids": (PAD, BOS, EOS, UNKNOWN), "generator": seeded(), **options}
    return mask_tokens(tokens, NUM_TOKENS, MASK, **options)


def test_each_sequence_hides_its_share_and_at_least_one():
    tokens = text()
    for probability in (0.15, 0.5, 1.0):
        labels = masked(tokens, probability=probability).labels
        for row, chosen in zip(tokens.tolist(), (labels != IGNORED).sum(1).tolist(), strict=True):
            ordinary = sum(token not in SPECIALS for token in row)
            assert chosen == (max(1, round(ordinary * probability)) if ordinary else 0)


def test_labels_are_what_was_there_and_nothing_else_changes():
    tokens = text()
    inputs, labels = masked(tokens)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], tokens[chosen])
    assert torch.equal(inputs[~chosen], tokens[~chosen])
    assert not torch.isin(labels[chosen], torch.tensor(SPECIALS)).any()


def test_of_the_chosen_80_percent_are_hidden_10_replaced_and_10_kept():
    tokens = text(20_000)
    inputs, labels = masked(tokens)
    chosen = labels != IGNORED
    number = int(chosen.sum())
    assert number > 50_000
    hidden = int((inputs[chosen] == MASK).sum())
    kept = int((inputs[chosen] == tokens[chosen]).sum())
    # Of the replaced, one in twenty gets the token that was there.
    for count, share in ((hidden, 0.8), (kept, 0.1 + 0.1 / 20), (number - hidden - kept, 0.095)):
        deviation = (share * (1 - share) / number) ** 0.5
        assert abs(count / number - share) < 4 * deviation


def test_replacements_are_ordinary_tokens_each_as_often_as_another():
    special_ids, mask_id, num_tokens = (33, 6, 0, 39), 12, 40  # no block, and in no order
    tokens = torch.full((4000, 50), 10)
    inputs, labels = mask_tokens(
        tokens,
        num_tokens,
        mask_id,
        special_ids=special_ids,
        probability=1.0,
        generator=seeded(),
    )
    assert (labels == 10).all()
    counts = torch.bincount(inputs[(inputs != 10) & (inputs != mask_id)], minlength=num_tokens)
    absent = {*special_ids, mask_id, 10}
    assert counts[list(absent)].sum() == 0
    others = counts[[i for i in range(num_tokens) if i not in absent]].float()
    expected = 4000 * 50 * 0.1 / 35
    assert (others - expected).abs().max() < 5 * expected**0.5


def test_every_position_is_chosen_as_often_as_another():
    labels = masked(torch.full((20_000, 10), 9), probability=0.3).labels
    share = (labels != IGNORED).float().mean(0)
    torch.testing.assert_close(share, torch.full((10,), 0.3), atol=0.015, rtol=0)


def test_draws_come_from_the_generator_or_from_torch():
    tokens = text(50)
    state = torch.get_rng_state()
    assert torch.equal(masked(tokens).tokens, masked(tokens).tokens)
    assert not torch.equal(masked(tokens).tokens, masked(tokens, generator=seeded(1)).tokens)
    assert torch.equal(torch.get_rng_state(), state)
    first, second = masked(tokens, generator=None), masked(tokens, generator=None)
    assert not torch.equal(first.labels, second.labels)
    torch.set_rng_state(state)
    assert torch.equal(masked(tokens, generator=None).tokens, first.tokens)


def test_a_vocabulary_of_one_ordinary_token_is_replaced_by_it():
    tokens = torch.full((100, 10), 1)
    inputs, _ = mask_tokens(tokens, 3, 0, special_ids=(2,), probability=1.0, generator=seeded())
    assert set(inputs.unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tokens": torch.zeros(3, dtype=torch.long)}, r"tokens \[3\]: give \[B, T\]"),
        ({"probability": 0.0}, "probability=0.0"),
        ({"probability": 1.1}, "probability=1.1"),
        ({"mask_id": 25}, "mask_id=25.*num_tokens=25"),
        ({"special_ids": (-1,)}, r"special_ids=\[-1\]"),
        ({"num_tokens": 5, "special_ids": SPECIALS}, "all 5 tokens are special"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"tokens": text(3), "num_tokens": NUM_TOKENS, "mask_id": MASK, **change}
    with pytest.raises(ValueError, match=match):
        mask_tokens(**given)
