"""Convolutions that halve and double images."""

import pytest
import torch

from trellis.generative.convolution import ConvolutionalDecoder, ConvolutionalEncoder, halved


@pytest.mark.parametrize("channels", [(3,), (3, 5), (3, 5, 4)])
def test_an_image_becomes_a_vector_and_back(channels: tuple[int, ...]) -> None:
    encoder = ConvolutionalEncoder((2, 8, 16), 7, channels=channels)
    decoder = ConvolutionalDecoder(7, (6, 8, 16), channels=channels)
    code = encoder(torch.randn(4, 2, 8, 16))
    assert code.shape == (4, 7)
    assert decoder(code).shape == (4, 6, 8, 16)
    maps = encoder.layers[:-1](torch.randn(1, 2, 8, 16))
    assert maps.shape[1:] == halved((2, 8, 16), channels)


def test_every_pixel_is_read_and_written() -> None:
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder((1, 8, 8), 4, channels=(3, 5), activation="tanh")
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    encoder(x).square().sum().backward()
    assert (x.grad != 0).all()
    decoder = ConvolutionalDecoder(4, (1, 8, 8), channels=(3, 5), activation="tanh")
    a, b = decoder(torch.randn(2, 4))
    assert (a != b).all()


def test_the_activation_is_not_on_the_outputs() -> None:
    torch.manual_seed(0)
    encoder = ConvolutionalEncoder((1, 8, 8), 40, channels=(3,))
    decoder = ConvolutionalDecoder(40, (1, 8, 8), channels=(3,))
    assert encoder(torch.randn(5, 1, 8, 8)).min() < 0
    assert decoder(torch.randn(5, 40)).min() < 0


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(ValueError, match=r"shape=\(1, 12, 12\): 3 convolutions .* by 8"):
        ConvolutionalEncoder((1, 12, 12), 4, channels=(2, 2, 2))
    with pytest.raises(ValueError, match="a width of channels=0"):
        ConvolutionalDecoder(4, (1, 8, 8), channels=(2, 0))
