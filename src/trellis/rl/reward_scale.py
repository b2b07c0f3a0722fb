"""Rewards scaled by their own statistics to a size that a value can learn."""

from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import positive, probability
from trellis.rl.running_scale import update_statistics_


def _resize_sums(module: Any, state_dict: Any, prefix: str, *rest: Any) -> None:
    # A new scale does not know the number of environments yet.
    if (sums := state_dict.get(f"{prefix}sums")) is not None:
        module.sums = module.sums.new_zeros(sums.shape)


class RewardScale(nn.Module):
    r"""Rewards divided by the standard deviation of their discounted sums so far.

    .. math:: \text{clip}\bigl(r_t / \sqrt{\sigma^2 + 10^{-8}}, \pm c\bigr), \quad
        R_t = r_t + \gamma R_{t-1}, \quad \sigma^2 = \text{Var}(R)

    R starts from 0 in each episode. The mean is not subtracted: to shift all rewards would reward
    long episodes, or short ones. As the ``reward_scale`` of an ``ActorCriticNetwork`` it is saved
    with the network, whose value is then that of scaled rewards; agents that learn from rollouts
    first ``update`` it with each of them and then scale the whole rollout. What they log is not
    scaled. Before the first update it only clips.

    Args:
        gamma: discount per step, in [0, 1]; agents refuse another than their own.
        clip: c.
    Shape:
        rewards ``[T, N]``, of T steps in N environments -> ``[T, N]``
    Raises:
        ValueError: gamma outside [0, 1], a clip that is not positive.

    Source: Engstrom et al. 2020, section 3 and algorithm 1. Deviates: gymnasium's NormalizeReward
    updates the standard deviation with each step rather than each rollout, counts the last step
    of a terminated episode without the sum before it, and carries that step into the next episode.

    >>> scale, no = RewardScale(gamma=0.5), torch.zeros(2, 1, dtype=torch.bool)
    >>> scale.update(torch.tensor([[2.0], [5.0]]), ended=no, mask=~no)  # sums 2, 6: std 2
    >>> scale(torch.tensor([[2.0], [5.0]])).flatten()
    tensor([1.0000, 2.5000])
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    sums: Tensor

    def __init__(self, gamma: float, clip: float = 10.0) -> None:
        super().__init__()
        self.gamma, self.clip = probability("gamma", gamma), positive("clip", clip)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("var", torch.ones(()))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("sums", torch.zeros(0))  # R of each environment
        self.register_load_state_dict_pre_hook(_resize_sums)

    def forward(self, rewards: Tensor) -> Tensor:
        return (rewards / (self.var + 1e-8).sqrt()).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, rewards: Tensor, ended: Tensor, mask: Tensor) -> None:
        """Add the steps that follow those of the last update to the statistics.

        Args:
            rewards: ``[T, N]``; with another N than before, R starts from 0.
            ended: bool ``[T, N]``, whether the step terminated or truncated its episode.
            mask: bool ``[T, N]``, false where a step only reset the environment: it is left out.
        """
        width = rewards.size(1)
        total = self.sums if len(self.sums) == width else rewards.new_zeros(width)
        discounts = self.gamma * (~ended).to(rewards.dtype)
        before, sums = self.gamma * total, []
        steps = zip(rewards.where(mask, 0.0).unbind(), discounts.unbind(), strict=True)
        for reward, factor in steps:
            sums.append(before + reward)
            before = factor * sums[-1]
        if len(counted := torch.stack(sums)[mask]):
            update_statistics_(counted, self.mean, self.var, self.count)
        self.sums = sums[-1].where(~ended[-1], 0.0)
