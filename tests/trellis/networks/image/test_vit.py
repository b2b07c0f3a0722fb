"""Vision transformers: a published size, patches in their places, torch's encoder."""

import pytest
import torch
from torch import Tensor, nn

from trellis.networks.image.vit import ViT

IN, OUT, SIZE, PATCH, D, H, L, FEEDFORWARD, B = 2, 5, 8, 4, 8, 2, 2, 12, 3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(B, IN, SIZE, SIZE)


def build(**options: object) -> ViT:
    """A small vision transformer in which everything matters."""
    defaults = {
        "image_size": SIZE,
        "patch_size": PATCH,
        "embed_dim": D,
        "num_heads": H,
        "num_layers": L,
        "feedforward_dim": FEEDFORWARD,
    }
    network = ViT(IN, OUT, **{**defaults, **options}).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    return network


def copy_(peer: nn.Module, ours: nn.Module) -> None:
    for mine, theirs in zip(ours.parameters(), peer.parameters(), strict=True):
        theirs.data = mine.data


def test_the_published_base_has_its_size() -> None:
    """Dosovitskiy et al. 2021, table 1: 86 million; with 1,000 classes exactly 86,567,656."""
    with torch.device("meta"):
        network = ViT(
            3,
            1000,
            image_size=224,
            patch_size=16,
            embed_dim=768,
            num_heads=12,
            num_layers=12,
            feedforward_dim=3072,
        )
    assert sum(p.numel() for p in network.parameters()) == 86_567_656


def test_it_is_torchs_encoder_over_patches(x: Tensor) -> None:
    network = build()
    tokens = [network.first.expand(B, D)]
    kernel = network.patches.weight.flatten(1)
    for row in (0, PATCH):
        for column in (0, PATCH):
            patch = x[:, :, row : row + PATCH, column : column + PATCH].flatten(1)
            tokens.append(patch @ kernel.t() + network.patches.bias)
    hidden = torch.stack(tokens, 1) + network.positions.weight
    for mine in network.layers:
        layer = nn.TransformerEncoderLayer(
            D, H, FEEDFORWARD, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        copy_(layer.self_attn, mine.attention)
        copy_(layer.norm1, mine.residual.norm)
        copy_(layer.norm2, mine.feedforward.residual.norm)
        copy_(layer.linear1, mine.feedforward.hidden)
        copy_(layer.linear2, mine.feedforward.output)
        hidden = layer(hidden)
    expected = network.output(network.norm(hidden[:, 0]))
    torch.testing.assert_close(network(x), expected, rtol=1e-4, atol=1e-4)


def test_every_patch_matters(x: Tensor) -> None:
    network = build()
    before = network(x)
    for row in (0, PATCH):
        for column in (0, PATCH):
            changed = x.clone()
            changed[:, :, row, column] += 1
            assert (network(changed) - before).abs().amax(1).min() > 1e-3


def test_attention_weights(x: Tensor) -> None:
    network = build()
    weights = network.attention_weights(x)
    calls: list[tuple] = []
    for layer in network.layers:
        layer.attention.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    network(x)
    for layer, arguments, w in zip(network.layers, calls, weights, strict=True):
        torch.testing.assert_close(w, layer.attention.weights(*arguments))
    assert [w.shape for w in weights] == [(B, H, 5, 5)] * L
    for w in weights:
        torch.testing.assert_close(w.sum(-1), torch.ones(B, H, 5))


def test_how_it_starts() -> None:
    network = ViT(1, 10, embed_dim=128, num_layers=1)
    assert network.first.eq(0).all()
    assert network.positions.weight.std().item() == pytest.approx(0.02, rel=0.05)
    hidden = network.layers[0].feedforward.hidden
    assert hidden.bias.eq(0).all()
    bound = (6 / (128 + 128)) ** 0.5
    assert 0.99 * bound < hidden.weight.abs().max() <= bound


def test_every_parameter_learns(x: Tensor) -> None:
    network = build(dropout=0.0).train()
    (network(x) * torch.randn(OUT)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_dropout_only_in_training(x: Tensor) -> None:
    network = build(dropout=0.5)
    assert {part.p for part in network.modules() if isinstance(part, nn.Dropout)} == {0.5}
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)
    network.train()
    assert not network(x).equal(network(x))
    for layer in network.layers:
        layer.eval()
    network.dropout.p = 1.0  # of the embeddings: all images look alike
    torch.testing.assert_close(*network(x)[:2])


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, IN, 12, 12), (1, IN, 8, 4)])
def test_an_image_of_another_size_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"does not fit ViT\(image_size=8\): give x \[B, 2, 8, 8"):
        build()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 3}, "patch_size=3: give a divisor of image_size=8"),
        ({"patch_size": 16}, "patch_size=16: give a divisor of image_size=8"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"image_size": 0}, "image_size=0"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"num_heads": 3}, "num_heads=3: give a divisor of embed_dim=8"),
        ({"dropout": 1.5}, "dropout=1.5"),
    ],
)
def test_impossible_sizes_are_named(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_colours_and_classes_are_checked(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"does not fit ViT\(in_channels=2\)"):
        build()(x[:, :1])
    with pytest.raises(ValueError, match="out_channels=0"):
        ViT(1, 0)
