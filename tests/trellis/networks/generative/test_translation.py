"""Networks of image translation: sizes that their authors print, patches, joints, bad input."""

from functools import partial

import pytest
import torch
from torch import nn

from trellis.networks.generative.translation import (
    PatchDiscriminator,
    TranslationResNet,
    TranslationUNet,
)

GENERATORS = {
    "unet": partial(TranslationUNet, channels=3, num_levels=2),
    "deep unet": partial(TranslationUNet, channels=2, num_levels=4, norm="instance"),
    "shallow unet": partial(TranslationUNet, channels=2, num_levels=1),
    "resnet": partial(TranslationResNet, channels=2, num_blocks=2),
}


def millions(network: nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 3)


def test_parameters_are_as_many_as_the_authors_code_prints() -> None:
    """By its lines "[Network G] Total number of parameters", in issue 1152 and with colours."""
    with torch.device("meta"):
        assert millions(TranslationUNet(1, 1)) == 54.408
        assert millions(TranslationUNet(1, 1, num_levels=6)) == 29.238
        assert millions(TranslationUNet(3, 3)) == 54.414
        assert millions(PatchDiscriminator(2)) == 2.765
        assert millions(PatchDiscriminator(2, num_layers=2)) == 0.662
        assert millions(PatchDiscriminator(6)) == 2.769
        # Issue 45 prints 11,388,675 with the scales and shifts of its instance norms, of which
        # there are two for each of 5,248 channels.
        assert millions(TranslationResNet(3, 3)) == round((11_388_675 - 2 * 5_248) / 1e6, 3)


@pytest.mark.parametrize(("num_layers", "side"), [(1, 16), (2, 34), (3, 70), (5, 286)])
def test_a_logit_sees_a_patch_of_the_size_in_the_paper(num_layers: int, side: int) -> None:
    """Isola et al. 2017, section 4.4: 16, 70 and 286 pixels; 34 by the same rule."""
    torch.manual_seed(0)
    network = PatchDiscriminator(1, channels=1, num_layers=num_layers, norm="none")
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.2)
    x = torch.zeros(1, 1, *2 * [2 * side + 64], requires_grad=True)
    logits = network(x)
    logits[0, logits.size(1) // 2, logits.size(2) // 2].backward()
    assert x.grad is not None
    for axis in (2, 3):
        seen = x.grad.ne(0).any(axis).flatten().nonzero()
        assert len(seen) == side == seen[-1] - seen[0] + 1


@pytest.mark.parametrize("name", GENERATORS)
def test_translations_have_the_size_of_the_images_and_depend_on_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = GENERATORS[name](2, 3)
    x = torch.rand(2, 2, 32, 16)
    out = network(x)
    assert out.shape == (2, 3, 32, 16)
    assert out.abs().max() <= 1
    (out * torch.randn_like(out)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    torch.testing.assert_close(network(x)[:1], network(x[:1]))
    unit = GENERATORS[name](2, 3, output="sigmoid")(x)
    assert unit.min() >= 0


def test_the_levels_of_a_unet_are_joined() -> None:
    """With nothing passed on by the smallest images, its input still reaches the output."""
    torch.manual_seed(0)
    network = TranslationUNet(1, 1, channels=4, num_levels=3, norm="none").eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.rand(1, 1, 32, 32)
    moved = x.clone()
    moved[..., 15, 15] += 1
    # Through two levels a pixel reaches 14 x 14, through all three 30 x 30.
    reached = (network(moved) != network(x)).sum()
    assert 14 * 14 < reached <= 30 * 30
    nn.init.zeros_(network.up[0][1].weight)
    assert 0 < (network(moved) != network(x)).sum() <= 14 * 14
    widths = [layer[1].in_channels for layer in [*network.up, network.output]]
    assert widths == [16, 16, 8]


def test_dropout_is_of_the_first_three_levels_on_the_way_up() -> None:
    network = TranslationUNet(1, 1, channels=2, num_levels=6, dropout=0.3)
    assert [isinstance(layer[-1], nn.Dropout) for layer in network.up] == [True] * 3 + [False] * 2
    network = TranslationUNet(1, 1, channels=2, num_levels=2)
    assert [isinstance(layer[-1], nn.Dropout) for layer in network.up] == [True]
    assert not any(isinstance(layer, nn.Dropout) for layer in network.output)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"28 x 28 pixels .* divisible by 8, or fewer levels"):
        TranslationUNet(1, 1, channels=2, num_levels=3)(torch.zeros(1, 1, 28, 28))
    with pytest.raises(ValueError, match=r"TranslationResNet: .* divisible by 4"):
        TranslationResNet(1, 1, channels=2)(torch.zeros(1, 1, 10, 8))
    with pytest.raises(ValueError, match=r"PatchDiscriminator\(in_channels=2\).*at least 12"):
        PatchDiscriminator(2, num_layers=2)(torch.zeros(1, 2, 11, 28))
    with pytest.raises(ValueError, match="norm='layer': choose from batch, instance, none"):
        PatchDiscriminator(2, norm="layer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm='layer'"):
        TranslationUNet(1, 1, norm="layer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_levels=0"):
        TranslationUNet(1, 1, num_levels=0)
