"""A chain of tags: against all sequences one by one, and against the package pytorch-crf."""

import itertools

import pytest
import torch
from torch import Tensor

from trellis.sequence.entities import bio_allowed
from trellis.sequence.linear_chain_crf import LinearChainCRF

CLASSES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def case(num_tags: int = 3, length: int = 4) -> tuple[LinearChainCRF, Tensor, Tensor]:
    """A field, emissions and which tokens are known: gaps, padding, one token, none."""
    torch.manual_seed(0)
    crf = LinearChainCRF(num_tags).double()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    emissions = torch.randn(5, length, num_tags, dtype=torch.double)
    known = torch.ones(5, length, dtype=torch.bool)
    known[1, -1] = known[2, 0] = known[2, 2] = known[3, 1:] = False
    known[4] = False
    return crf, emissions, known


def scores(crf: LinearChainCRF, emissions: Tensor, known: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of every sequence of tags of one sentence, as the definition has it."""
    rows = emissions[known]
    found = {}
    for tags in itertools.product(range(crf.num_tags), repeat=len(rows)):
        total = crf.first[tags[0]] + crf.last[tags[-1]]
        for row, tag in zip(rows, tags, strict=True):
            total = total + row[tag]
        for before, tag in itertools.pairwise(tags):
            total = total + crf.transitions[before, tag]
        found[tags] = total
    return found


def test_all_is_as_if_sequences_were_listed() -> None:
    crf, emissions, known = case()
    tags = torch.randint(3, known.shape).where(known, -100)
    log_probs, log_z = crf(emissions, tags), crf.log_partition(emissions, known)
    best, marginals = crf.viterbi(emissions, known), crf.marginals(emissions, known)
    for row in range(4):
        table = scores(crf, emissions[row], known[row])
        expected = torch.stack([*table.values()]).logsumexp(0)
        torch.testing.assert_close(log_z[row], expected)
        given = tuple(tags[row][known[row]].tolist())
        torch.testing.assert_close(log_probs[row], table[given] - expected)
        highest = max(table, key=lambda each: table[each].item())
        assert best[row][known[row]].tolist() == [*highest]
        for place, position in enumerate(known[row].nonzero().flatten().tolist()):
            for tag in range(3):
                some = torch.stack([s for each, s in table.items() if each[place] == tag])
                share = (some.logsumexp(0) - expected).exp()
                torch.testing.assert_close(marginals[row, position, tag], share)
    assert log_z[4] == log_probs[4] == 0, "a sentence without tags counts for nothing"
    assert not best[~known].any()
    assert not marginals[~known].any()


def test_marginals_are_the_gradient_of_the_log_partition() -> None:
    crf, emissions, known = case(num_tags=4, length=7)
    emissions.requires_grad_()
    crf.log_partition(emissions, known).sum().backward()
    torch.testing.assert_close(emissions.grad, crf.marginals(emissions, known).detach())


def test_gradients_are_those_of_finite_differences() -> None:
    crf, emissions, known = case()
    tags = torch.randint(3, known.shape).where(known, -100)
    inputs = (emissions.requires_grad_(), *crf.parameters())
    assert torch.autograd.gradcheck(lambda *_: crf(emissions, tags), inputs)


def test_what_is_skipped_does_not_matter() -> None:
    crf, emissions, known = case()
    wider = torch.full((5, 9, 3), 7.0, dtype=torch.double)
    places = torch.zeros(5, 9, dtype=torch.bool)
    wider[:, [1, 3, 4, 7]], places[:, [1, 3, 4, 7]] = emissions, known
    tags = torch.randint(3, known.shape)
    spread = torch.full((5, 9), -100)
    spread[:, [1, 3, 4, 7]] = tags.where(known, -100)
    torch.testing.assert_close(crf(wider, spread), crf(emissions, tags.where(known, -100)))
    assert torch.equal(crf.viterbi(wider, places)[places], crf.viterbi(emissions, known)[known])


def test_pytorch_crf_agrees() -> None:
    peer_of = pytest.importorskip("torchcrf").CRF
    crf, emissions, _ = case(num_tags=5, length=8)
    peer = peer_of(5, batch_first=True).double()
    with torch.no_grad():
        peer.transitions.copy_(crf.transitions)
        peer.start_transitions.copy_(crf.first)
        peer.end_transitions.copy_(crf.last)
    known = torch.arange(8) < torch.tensor([8, 1, 3, 7, 2]).unsqueeze(1)
    tags = torch.randint(5, (5, 8))
    expected = peer(emissions, tags, known, reduction="none")
    torch.testing.assert_close(crf(emissions, tags.where(known, -100)), expected)
    best = crf.viterbi(emissions, known)
    assert peer.decode(emissions, known) == [
        row[inside].tolist() for row, inside in zip(best, known, strict=True)
    ]


def test_forbidden_transitions_are_never_taken() -> None:
    torch.manual_seed(0)
    crf = LinearChainCRF(5, bio_allowed(CLASSES)).requires_grad_(False)
    emissions = 5 * torch.randn(50, 12, 5)
    best = crf.viterbi(emissions, torch.ones(50, 12, dtype=torch.bool))
    free = LinearChainCRF(5).viterbi(emissions, torch.ones(50, 12, dtype=torch.bool))

    def broken(row: list[int]) -> bool:
        names = ["O", *(CLASSES[tag] for tag in row)]
        pairs = itertools.pairwise(names)
        return any(b[0] == "I" and a not in (b, f"B{b[1:]}") for a, b in pairs)

    assert not any(map(broken, best.tolist()))
    assert sum(map(broken, free.tolist())) > 40
    emissions.requires_grad_()
    crf(emissions, best).sum().backward()
    assert torch.isfinite(emissions.grad).all()
    # All sequences that are allowed have probability 1 together.
    short = torch.randn(1, 3, 5)
    every = torch.tensor([*itertools.product(range(5), repeat=3)])
    legal = torch.tensor([not broken(row) for row in every.tolist()])
    probs = crf(short.expand(125, 3, 5), every).exp()
    assert float(probs[legal].sum()) == pytest.approx(1, abs=1e-5)
    assert float(probs[~legal].sum()) == 0


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (("NN", "VB"), "give O, B-KIND and I-KIND"),
        (("O", "B-PER", "I-PER", "I-LOC"), "I-LOC without B-LOC: not every entity has a B-"),
    ],
)
def test_other_schemes_have_no_constraints(classes: tuple[str, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bio_allowed(classes)


def test_one_graph_and_no_device_of_its_own() -> None:
    crf, emissions, known = case()
    tags = torch.randint(3, known.shape).where(known, -100)
    compiled = torch.compile(crf.forward, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(emissions, tags), crf(emissions, tags))
    on_meta = LinearChainCRF(3).to("meta")
    assert on_meta(emissions.float().to("meta"), tags.to("meta")).shape == (5,)
    assert on_meta.viterbi(emissions.float().to("meta"), known.to("meta")).shape == (5, 4)


class _Decoder(torch.nn.Module):
    def __init__(self, crf: LinearChainCRF) -> None:
        super().__init__()
        self.crf = crf

    def forward(self, emissions: Tensor, known: Tensor) -> Tensor:
        return self.crf.viterbi(emissions, known)


def test_decoding_can_be_exported() -> None:
    crf, emissions, known = case()
    program = torch.export.export(_Decoder(crf), (emissions, known))
    assert torch.equal(program.module()(emissions, known), crf.viterbi(emissions, known))


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="num_tags=1: give at least 2"):
        LinearChainCRF(1)
    with pytest.raises(ValueError, match=r"emissions \[2, 3, 4\]: give .* \[2, 3, 5\]"):
        LinearChainCRF(5)(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.long))
