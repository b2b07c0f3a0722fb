"""Rewards of any scale brought to a size that a value can learn."""

from typing import Any

import torch
from torch import Tensor, nn

from trellis.checks import positive, probability
from trellis.rl.running_scale import count_in_


class RewardScale(nn.Module):
    r"""Rewards divided by the deviation of the discounted sums of rewards so far.

    .. math:: \text{clip}\bigl(r_t / \sqrt{\sigma^2 + 10^{-8}}, \pm c\bigr), \quad
        R_t = r_t + \gamma R_{t-1}, \quad \sigma^2 = \text{Var}(R)

    R begins anew with each episode. Nothing is subtracted, for a shift of all rewards would pay
    for long episodes or for short ones. As the ``reward_scale`` of an ``ActorCriticNetwork`` it
    is saved with the network, whose value is then that of scaled rewards; objectives that learn
    from rollouts ``update`` it with each of them first and then scale that rollout as a whole.
    What they log is not scaled. Before the first update it leaves rewards as they are, but for
    the clip.

    Args:
        gamma: discount per step, in [0, 1]; that of the agent.
        clip: c.
    Shape:
        rewards ``[T, N]``, of T steps in N environments -> ``[T, N]``
    Raises:
        ValueError: gamma outside [0, 1], a clip that is not positive.

    Source: Engstrom et al. 2020, section 3 and algorithm 1. Deviates: gymnasium's NormalizeReward
    has a deviation for each step in place of each rollout, counts the last step of a terminated
    episode without what came before, and lets that step count in the next episode.

    >>> scale, no = RewardScale(gamma=0.5), torch.zeros(2, 1, dtype=torch.bool)
    >>> scale.update(torch.tensor([[2.0], [5.0]]), ended=no, mask=~no)  # sums 2 and 6: deviation 2
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
        self.register_buffer("sums", torch.zeros(0))  # where each environment stands

    def forward(self, rewards: Tensor) -> Tensor:
        return (rewards / (self.var + 1e-8).sqrt()).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(self, rewards: Tensor, ended: Tensor, mask: Tensor) -> None:
        """Count the steps that follow those of the last update.

        Args:
            rewards: ``[T, N]``; another N than before begins new episodes.
            ended: bool ``[T, N]``, the episode ended with this step, one way or the other.
            mask: bool ``[T, N]``, false where a step only began a new episode: it does not count.
        """
        width = rewards.size(1)
        total = self.sums if len(self.sums) == width else rewards.new_zeros(width)
        going = self.gamma * (~ended).to(rewards.dtype)
        # What a new episode begins with is 0, whatever gamma is.
        before, sums = self.gamma * total, []
        for reward, factor in zip(rewards.where(mask, 0.0).unbind(), going.unbind(), strict=True):
            sums.append(before + reward)
            before = factor * sums[-1]
        if len(counted := torch.stack(sums)[mask]):
            count_in_(counted, self.mean, self.var, self.count)
        self.sums = sums[-1].where(~ended[-1], 0.0)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # A new network does not know yet how many environments there are.
        if (sums := state_dict.get(f"{prefix}sums")) is not None:
            self.sums = self.sums.new_zeros(sums.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)
