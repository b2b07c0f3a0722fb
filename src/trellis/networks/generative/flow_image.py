"""Normalizing flows of images: convolutions decide, and half the channels leave at each scale.

Legend: B examples, C channels, H and W sides of an image, K classes.
"""

from collections.abc import Sequence

from torch import nn

from trellis.checks import at_least_one
from trellis.generative.coupling import (
    CheckerboardCoupling,
    ConvConditioner,
    Coupling,
    MultiScale,
    Squeeze,
    coupled_sizes,
)
from trellis.generative.glow import glow_step
from trellis.generative.transform import Affine, Chain, Transform
from trellis.networks.generative.flow import Flow


class RealNVPImage(Flow):
    """Affine couplings of images by checkerboard and by channels, at several scales.

    A scale is couplings by checkerboard, a squeeze, couplings by channels, and the leave of half
    of them; the last is couplings by checkerboard alone.

    Args:
        shape: ``(C, H, W)``, sides divisible by 2 for each scale but the last.
        num_classes: K of a conditional flow.
        num_levels: scales.
        num_transforms: couplings of a kind at a scale.
        hidden_channels: of the couplings' convolutions.
        max_scale: no coupling stretches a pixel more.
    Shape:
        x ``[B, C, H, W]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: a size below 1, or a shape that cannot be halved so often.

    Source: Dinh et al. 2017, section 3.4-3.6.
    Deviates: conditioners of three convolutions that begin at zero, as Glow's, not residual
    networks with batch norm.
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

        def conditioner(kept: int, mapped: int) -> nn.Module:
            return ConvConditioner(
                kept + num_classes,
                mapped * affine.num_parameters,
                hidden_channels=hidden_channels,
            )

        levels = []
        for number, (channels, *_) in enumerate(shapes):
            last = number + 1 == num_levels
            fine = channels if last else channels // 4
            transforms: list[Transform] = [
                CheckerboardCoupling(fine, affine, conditioner(fine, fine), swap=step % 2 == 1)
                for step in range(num_transforms + last)
            ]
            if not last:
                transforms.append(Squeeze())
                for step in range(num_transforms):
                    swap = step % 2 == 1
                    network = conditioner(*coupled_sizes(channels, swap=swap))
                    transforms.append(Coupling(channels, affine, network, swap=swap))
            levels.append(Chain(transforms))
        super().__init__(shape, MultiScale(levels, shapes), num_classes=num_classes)


class Glow(Flow):
    """Steps of activation norm, invertible 1 x 1 convolution and coupling, at several scales.

    Args:
        shape: ``(C, H, W)``, sides divisible by 2 for each scale.
        num_classes: K of a conditional flow.
        num_levels: scales, each of which begins with a squeeze.
        num_steps: steps of flow at a scale.
        hidden_channels: of the couplings' convolutions.
        max_scale: no coupling stretches a pixel more.
    Shape:
        x ``[B, C, H, W]``, y ``[B]`` -> log-densities ``[B]``
    Raises:
        ValueError: a size below 1, or a shape that cannot be halved so often.

    Source: Kingma and Dhariwal 2018, section 3 and figure 2b.
    Deviates: the noise that leaves at a scale is standard normal, not conditional on the rest.
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
        levels = [
            Chain(
                [
                    Squeeze(),
                    *(
                        glow_step(
                            channels,
                            hidden_channels=hidden_channels,
                            context_features=num_classes,
                            max_scale=max_scale,
                        )
                        for _ in range(num_steps)
                    ),
                ]
            )
            for channels, *_ in shapes
        ]
        super().__init__(shape, MultiScale(levels, shapes), num_classes=num_classes)


def _squeezed(
    shape: Sequence[int], num_levels: int, num_squeezes: int
) -> list[tuple[int, int, int]]:
    """Shapes that come out of each level; the first ``num_squeezes`` levels squeeze.

    Raises:
        ValueError: no image, or its sides cannot be halved so often.
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
        channels //= 2  # the other half leaves
    return shapes
