"""TCN: causal, stepwise the same, decoded by the library, learns what needs a memory."""

from functools import partial

import pytest
import torch
from copy_task import loss_after_copying

from trellis.networks.sequence import TCN
from trellis.sequence.beam_search import beam_search
from trellis.sequence.decoding import greedy_search, language_model

small = partial(TCN, 9, embed_dim=8, channels=12, num_layers=3)


def tokens(length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(9, (3, length), generator=generator)


def test_no_logit_depends_on_later_tokens() -> None:
    torch.manual_seed(0)
    network, text = small().double(), tokens(30)
    changed = text.clone()
    changed[:, 17:] = (changed[:, 17:] + 1) % 9
    ours, theirs = network(text)[0], network(changed)[0]
    assert torch.equal(ours[:, :17], theirs[:, :17])
    assert not torch.allclose(ours[:, 17], theirs[:, 17])


def test_token_by_token_with_its_state_it_is_the_whole() -> None:
    torch.manual_seed(0)
    network, text = small().double(), tokens(40)
    state, logits = None, []
    for token in text.split(1, 1):
        step, state = network(token, state)
        logits.append(step)
    torch.testing.assert_close(torch.cat(logits, 1), network(text)[0])


def test_searches_of_the_library_decode_it() -> None:
    torch.manual_seed(0)
    network = small().eval()
    for parameter in network.parameters():
        parameter.data.mul_(2)
    step, prompt = language_model(network), tokens(5)
    options = {"eos_id": None, "max_new_tokens": 8}
    for row, new in zip(prompt, greedy_search(step, prompt, **options).best(), strict=True):
        logits, _ = network(torch.cat([row, torch.tensor(new)])[None])
        assert logits[0, 4:-1].argmax(-1).tolist() == new
    found = beam_search(step, prompt, num_beams=3, **options)
    whole = torch.cat([prompt, found.tokens[:, 0]], 1)
    log_probs = network(whole)[0].log_softmax(-1)[:, 4:-1]
    scores = log_probs.gather(2, found.tokens[:, 0, :, None]).sum((1, 2))
    torch.testing.assert_close(found.scores[:, 0], scores)


def test_it_copies_what_stood_three_tokens_before_and_a_short_one_cannot() -> None:
    """What lies beyond the receptive field is lost."""
    network = partial(TCN, 4, embed_dim=16, channels=24, kernel_size=2)
    assert loss_after_copying(partial(network, num_layers=2)) < 0.01  # sees 7 tokens
    assert loss_after_copying(partial(network, num_layers=1)) > 1.3  # 3 of them


def test_tied_embeddings_are_one_matrix() -> None:
    network = small(embed_dim=12, tie=True)
    assert network.output.weight is network.embedding.weight
    with pytest.raises(ValueError, match="tie=True"):
        small(tie=True)
    with pytest.raises(ValueError, match="tokens holds id 9"):
        small()(torch.tensor([[9]]))
