"""U-Nets: shapes, what they begin as, attention, labels and times, bad input."""

import pytest
import torch

from trellis.networks.generative.unet import UNet, _Block, _PixelAttention


def moved(network: UNet) -> UNet:
    """With other weights than those of its beginning, some of which are 0."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8), (1, 28, 28)])
@pytest.mark.parametrize("num_blocks", [1, 2])
def test_outputs_have_the_shape_of_the_images_and_begin_at_zero(shape, num_blocks: int) -> None:
    network = UNet(shape, channels=8, num_blocks=num_blocks, num_heads=2)
    out = network(torch.randn(2, *shape), torch.rand(2))
    assert out.shape == (2, *shape)
    assert out.eq(0).all()


def test_attention_treats_all_pixels_alike_and_joins_them() -> None:
    torch.manual_seed(0)
    attention = _PixelAttention(8, 2)
    torch.nn.init.normal_(attention.attention.output.weight)
    x, order = torch.randn(2, 8, 3, 4), torch.randperm(12)

    def shuffled(image: torch.Tensor) -> torch.Tensor:
        return image.flatten(2)[:, :, order].view_as(image)

    out = attention(x)
    torch.testing.assert_close(attention(shuffled(x)), shuffled(out))
    assert not torch.allclose(out, x)


def test_each_resolution_has_its_blocks_and_attention() -> None:
    network = UNet((1, 8, 8), channels=8, multipliers=(1, 2), num_blocks=2, attention=(1,))
    blocks = [layer for layer in network.down if isinstance(layer, _Block)]
    widths = [block.second[-1].out_channels for block in blocks]
    assert widths == [8, 8, 16, 16]
    assert [isinstance(b.attention, _PixelAttention) for b in blocks] == [False, False, True, True]
    assert len([layer for layer in network.up if isinstance(layer, _Block)]) == 6


def test_time_and_label_change_the_output() -> None:
    network = moved(UNet((1, 8, 8), 3, channels=8, num_heads=2))
    x, t, y = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.7]), torch.tensor([0, 2])
    out = network(x, t, y)
    assert not torch.allclose(out, network(x, t.flip(0), y))
    assert not torch.allclose(out, network(x, t, y.flip(0)))
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(out, alone, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape=\(1, 10, 8\).*divisible by 4"):
        UNet((1, 10, 8))
    with pytest.raises(ValueError, match=r"shape=\(8,\).*images"):
        UNet((8,))
    with pytest.raises(ValueError, match="x"):
        UNet((1, 8, 8), channels=8)(torch.zeros(2, 1, 8, 9), torch.zeros(2))
    with pytest.raises(ValueError, match="y"):
        UNet((1, 8, 8), 3, channels=8)(torch.zeros(2, 1, 8, 8), torch.zeros(2))
