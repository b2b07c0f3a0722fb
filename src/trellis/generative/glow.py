"""Glow's step of flow: activation normalisation, invertible 1 x 1 convolution, coupling.

Legend: B examples, C channels, H and W height and width.
"""

from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one
from trellis.generative.coupling import ConvConditioner, build_coupling
from trellis.generative.transform import Affine, Chain, Transform


class ActNorm(Transform):
    r"""A scale and a shift per channel, initialised to standardise the first training batch.

    .. math:: z = (x + \mathrm{shift}) \exp(\mathrm{log\_scale})

    Whether they have been initialised is part of a checkpoint, so a resumed run does not do it
    again. Evaluated before any training it is the identity. Distributed processes average the
    statistics of their first batches and start from the same values.

    Args:
        channels: C.
    Shape:
        x ``[B, C]`` or ``[B, C, H, W]`` -> z as x, log-determinant ``[B]``

    Source: Kingma and Dhariwal 2018, section 3.1.
    """

    is_set: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(at_least_one("channels", channels)))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("is_set", torch.tensor(False))
        # A copy in Python: reading the buffer at each step would wait for the device.
        self._is_set = False
        self.register_load_state_dict_post_hook(ActNorm._read_is_set)

    def _read_is_set(self, _: object) -> None:
        self._is_set = bool(self.is_set)

    @torch.no_grad()
    def _set(self, x: Tensor) -> None:
        channels = x.transpose(0, 1).flatten(1)
        mean = _process_mean(channels.mean(1))
        variance = _process_mean((channels - mean[:, None]).square().mean(1))
        self.shift.copy_(-mean)
        # A constant channel, such as the black border of digits, keeps its scale.
        self.log_scale.copy_(torch.where(variance > 1e-6, -0.5 * variance.log(), 0.0))
        self.is_set.fill_(True)
        self._is_set = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.training and not self._is_set:
            self._set(x)
        z = (x + _per_channel(self.shift, x)) * _per_channel(self.log_scale.exp(), x)
        return z, self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = z * _per_channel((-self.log_scale).exp(), z) - _per_channel(self.shift, z)
        return x, -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * x[0, 0].numel()).expand(x.size(0))


def _process_mean(average: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(average)
        average /= dist.get_world_size()
    return average


def _per_channel(numbers: Tensor, x: Tensor) -> Tensor:
    return numbers.view(-1, *(1 for _ in x.shape[2:]))


class InvertibleConvolution(Transform):
    r"""Mixes the channels of each pixel by a matrix W, parametrised by its LU decomposition.

    .. math:: W = P L (U + \mathrm{diag}(s)), \quad \log |\det| = H W \sum \log |s|

    with P and the signs of s fixed, ones on the diagonal of L and zeros on that of U. W is
    initialised to a random rotation.

    Args:
        channels: C.
    Shape:
        x ``[B, C, H, W]`` -> z ``[B, C, H, W]``, log-determinant ``[B]``

    Source: Kingma and Dhariwal 2018, section 3.2 and eq. 10-11.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        size = at_least_one("channels", channels)
        rotation = torch.linalg.qr(torch.randn(size, size)).Q
        permutation, lower, upper = torch.linalg.lu(rotation)
        scale = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", scale.sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_scale = nn.Parameter(scale.abs().log())

    def _factors(self) -> tuple[Tensor, Tensor]:
        lower = self.lower.tril(-1) + torch.eye(len(self.sign), device=self.sign.device)
        return lower, self.upper.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        weight = self.permutation @ lower @ upper
        return F.conv2d(x, weight[..., None, None]), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors()
        pixels = self.permutation.T @ z.flatten(2)  # [B, C, H W]
        pixels = torch.linalg.solve_triangular(lower, pixels, upper=False, unitriangular=True)
        x = torch.linalg.solve_triangular(upper, pixels, upper=True)
        return x.view_as(z), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.sum() * x[0, 0].numel()).expand(x.size(0))


def glow_step(
    channels: int,
    *,
    hidden_channels: int = 64,
    context_features: int = 0,
    max_scale: float = 10.0,
) -> Chain:
    """One step of flow: activation normalisation, invertible convolution, affine coupling.

    Args:
        channels: C, at least two.
        hidden_channels: of the coupling's convolutions.
        context_features: width of the context of the coupling.
        max_scale: of the affine transform.

    Source: Kingma and Dhariwal 2018, figure 2a.
    """
    network = partial(ConvConditioner, hidden_channels=hidden_channels)
    coupling = build_coupling(
        channels, Affine(max_scale), network, context_features=context_features
    )
    return Chain([ActNorm(channels), InvertibleConvolution(channels), coupling])
