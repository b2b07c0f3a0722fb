"""Normalizing flows of images: convolutional conditioners in a multi-scale architecture.

Legend: B examples, C channels, H and W height and width, K classes.
"""

from collections.abc import Sequence
from functools import partial

from trellis.checks import at_least_one
from trellis.generative.coupling import (
    CheckerboardCoupling,
    ConvConditioner,
    MultiScale,
    Squeeze,
    build_coupling,
)
from trellis.generative.glow import glow_step
from trellis.generative.transform import Affine, Chain, Transform
from trellis.networks.generative.flow import Flow


class RealNVPImage(Flow):
    """Affine couplings of images, by checkerboard and by channels, at several scales.

    Each scale but the last consists of checkerboard couplings, a squeeze and channel couplings,
    after which half of the channels are factored out; the last has checkerboard couplings only.

    Args:
        shape: ``(C, H, W)``, H and W divisible by 2 once for each scale but the last.
        num_levels: scales.
        num_transforms: couplings of each kind at a scale.
        hidden_channels: of the couplings' convolutions.
        max_scale: the largest factor by which one coupling scales a pixel.
    Shape:
        x ``[B, C, H, W]``, y ``[B]`` -> log-densities ``[B]`` in nats
    Raises:
        ValueError: a size below 1, or a shape that cannot be halved so often.

    Source: Dinh et al. 2017, section 3.4-3.6.
    Deviates: the conditioners are Glow's, of three convolutions with the last initialised to
    zero, not residual networks with batch norm.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_levels: int = 2,
        num_transforms: int = 3,
        hidden_channels: int = 64,
        max_scale: float = 10.0,
    ) -> None:
        shapes = _squeezed(shape, num_levels, num_levels - 1)
        at_least_one("num_transforms", num_transforms)
        affine = Affine(max_scale)
        network = partial(ConvConditioner, hidden_channels=hidden_channels)

        def checkerboard_coupling(channels: int, step: int) -> Transform:
            conditioner = network(channels + num_classes, channels * affine.num_parameters)
            return CheckerboardCoupling(channels, affine, conditioner, swap=step % 2 == 1)

        def channel_coupling(channels: int, step: int) -> Transform:
            swap = step % 2 == 1
            return build_coupling(
                channels, affine, network, context_features=num_classes, swap=swap
            )

        *before_last, (last, *_) = shapes
        steps = range(num_transforms)
        levels = [
            Chain(
                [
                    *(checkerboard_coupling(channels // 4, step) for step in steps),
                    Squeeze(),
                    *(channel_coupling(channels, step) for step in steps),
                ]
            )
            for channels, *_ in before_last
        ]
        levels.append(Chain([checkerboard_coupling(last, s) for s in range(num_transforms + 1)]))
        super().__init__(shape, MultiScale(levels, shapes), num_classes=num_classes)


class Glow(Flow):
    """Steps of activation norm, invertible 1 x 1 convolution and coupling, at several scales.

    Args:
        shape: ``(C, H, W)``, H and W divisible by 2 once for each scale.
        num_levels: scales, each of which begins with a squeeze.
        num_steps: steps of flow at each scale.
        hidden_channels: see ``RealNVPImage``.
        max_scale: see ``RealNVPImage``.
    Shape:
        see ``RealNVPImage``
    Raises:
        ValueError: see ``RealNVPImage``.

    Source: Kingma and Dhariwal 2018, section 3 and figure 2b.
    Deviates: the channels factored out at a scale are standard normal, not conditioned on the
    rest.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 0,
        *,
        num_levels: int = 2,
        num_steps: int = 4,
        hidden_channels: int = 64,
        max_scale: float = 10.0,
    ) -> None:
        shapes = _squeezed(shape, num_levels, num_levels)
        at_least_one("num_steps", num_steps)
        step = partial(
            glow_step,
            hidden_channels=hidden_channels,
            context_features=num_classes,
            max_scale=max_scale,
        )
        levels = [
            Chain([Squeeze(), *(step(channels) for _ in range(num_steps))])
            for channels, *_ in shapes
        ]
        super().__init__(shape, MultiScale(levels, shapes), num_classes=num_classes)


def _squeezed(
    shape: Sequence[int], num_levels: int, num_squeezes: int
) -> list[tuple[int, int, int]]:
    """Shape of the output of each level, of which the first ``num_squeezes`` squeeze.

    Raises:
        ValueError: not the shape of an image, or one that cannot be halved so often.
    """
    at_least_one("num_levels", num_levels)
    if len(shape) != 3 or min(shape) < 1 or any(side % 2**num_squeezes for side in shape[1:]):
        raise ValueError(
            f"shape={tuple(shape)}: give (C, H, W) with sides divisible by {2**num_squeezes}, or "
            f"fewer than num_levels={num_levels}"
        )
    channels, height, width = shape
    shapes = []
    for number in range(num_levels):
        if number < num_squeezes:
            channels, height, width = 4 * channels, height // 2, width // 2
        shapes.append((channels, height, width))
        channels //= 2  # the other half is factored out
    return shapes
