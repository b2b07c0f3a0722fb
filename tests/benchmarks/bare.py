"""Networks and loops without a library, as people write them: what benchmarks compare with."""

from collections import deque
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Normal


class BareVAE(nn.Module):
    """PyTorch's example: 784-400-20-400-784, gradients through mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean = nn.Linear(784, 400), nn.Linear(400, 20)
        self.log_variance, self.upper = nn.Linear(400, 20), nn.Linear(20, 400)
        self.output = nn.Linear(400, 784)

    def forward(self, x: Tensor) -> Tensor:
        """Negative evidence lower bound of each example."""
        h = F.relu(self.hidden(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.output(F.relu(self.upper(z)))
        nats = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return nats - 0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp()).sum(1)


def layer(inputs: int, outputs: int, gain: float) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight, gain)
    nn.init.zeros_(linear.bias)
    return linear


class BareAgent(nn.Module):
    """A policy and a value of two hidden layers each."""

    def __init__(self) -> None:
        super().__init__()

        def network(outputs: int, gain: float) -> nn.Sequential:
            return nn.Sequential(
                layer(4, 64, 2**0.5), nn.Tanh(), layer(64, 64, 2**0.5), nn.Tanh(),
                layer(64, outputs, gain),
            )  # fmt: skip

        self.critic, self.actor = network(1, 1.0), network(2, 0.01)

    def judge(self, x: Tensor, action: Tensor | None = None) -> tuple[Tensor, ...]:
        """An action, drawn if none is given, its log-probability, the entropy, the value."""
        choices = Categorical(logits=self.actor(x))
        if action is None:
            action = choices.sample()
        return action, choices.log_prob(action), choices.entropy(), self.critic(x)


def ppo_loop(
    ticks: Any, total_steps: int, root: Path | None = None, device: str = "cpu", num_envs: int = 4
) -> float:
    """PPO in one piece, on the synchronous vector wrapper: no trainer, no log but of returns."""
    N, T, EPOCHS, PARTS, gamma, lam, clip = num_envs, 128, 4, 4, 0.99, 0.95, 0.2
    np.random.seed(0)

    def environment() -> Any:
        return gymnasium.wrappers.RecordEpisodeStatistics(gymnasium.make("CartPole-v1"))

    environments = gymnasium.vector.SyncVectorEnv([environment for _ in range(N)])
    agent, returns = BareAgent().to(device), deque[float](maxlen=100)
    optimizer = torch.optim.Adam(agent.parameters(), lr=2.5e-4, eps=1e-5)
    seen = torch.zeros(T, N, 4, device=device)
    actions, log_probs, rewards, dones, values = torch.zeros(5, T, N, device=device)
    first, _ = environments.reset(seed=0)
    observation, done = torch.Tensor(first).to(device), torch.zeros(N, device=device)
    iterations = total_steps // (N * T)
    ticks.on_train_start()
    for iteration in range(iterations):
        optimizer.param_groups[0]["lr"] = 2.5e-4 * (1 - iteration / iterations)
        for t in range(T):
            seen[t], dones[t] = observation, done
            with torch.no_grad():
                action, log_prob, _, value = agent.judge(observation)
                values[t] = value.flatten()
            actions[t], log_probs[t] = action, log_prob
            after, reward, terminated, truncated, info = environments.step(action.cpu().numpy())
            rewards[t] = torch.tensor(reward).to(device).view(-1)
            observation = torch.Tensor(after).to(device)
            done = torch.Tensor(np.logical_or(terminated, truncated)).to(device)
            if "episode" in info:
                returns.extend(info["episode"]["r"][info["_episode"]].tolist())
        with torch.no_grad():
            next_value = agent.critic(observation).view(-1)
            advantages = torch.zeros(T, N, device=device)
            last = torch.zeros(N, device=device)
            for t in reversed(range(T)):
                later_done = done if t == T - 1 else dones[t + 1]
                later_value = next_value if t == T - 1 else values[t + 1]
                error = rewards[t] + gamma * later_value * (1 - later_done) - values[t]
                advantages[t] = last = error + gamma * lam * (1 - later_done) * last
        goals = advantages + values
        flat = [each.reshape(T * N, *each.shape[2:]) for each in
                (seen, actions, log_probs, advantages, goals, values)]  # fmt: skip
        rows, clipped = np.arange(T * N), []
        for _ in range(EPOCHS):
            np.random.shuffle(rows)
            for start in range(0, T * N, T * N // PARTS):
                x, a, old, advantage, goal, was = (
                    each[rows[start : start + T * N // PARTS]] for each in flat
                )
                _, log_prob, entropy, value = agent.judge(x, a.long())
                change = log_prob - old
                ratio = change.exp()
                with torch.no_grad():
                    divergence = (ratio - 1 - change).mean()
                    clipped.append(((ratio - 1).abs() > clip).float().mean().item())
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                policy_loss = torch.max(
                    -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
                ).mean()
                value = value.view(-1)
                near = was + (value - was).clamp(-clip, clip)
                value_loss = torch.max((value - goal) ** 2, (near - goal) ** 2).mean() / 2
                loss = policy_loss + 0.5 * value_loss - 0.01 * entropy.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        assert divergence.isfinite()
        ticks.on_train_batch_end()
    environments.close()
    return sum(returns) / max(len(returns), 1)


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Two hidden layers of 256."""
    return nn.Sequential(
        nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs)
    )


def squashed(actor: nn.Module, x: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """An action in [-scale, scale] and its log-probability."""
    mean, log_std = actor(x).chunk(2, dim=-1)
    log_std = -5 + 0.5 * 7 * (torch.tanh(log_std) + 1)
    normal = Normal(mean, log_std.exp())
    raw = normal.rsample()
    y = torch.tanh(raw)
    log_prob = normal.log_prob(raw) - torch.log(scale * (1 - y.pow(2)) + 1e-6)
    return y * scale, log_prob.sum(1, keepdim=True)


def sac_loop(
    ticks: Any, total_steps: int, device: str, num_envs: int, learning_starts: int
) -> None:
    """SAC on Pendulum in one piece, an update for each step of an environment."""
    gamma, tau, batch_size, capacity, scale = 0.99, 0.005, 256, 100_000, 2.0
    environments = gymnasium.make_vec("Pendulum-v1", num_envs, vectorization_mode="sync")
    actor = dense(3, 2).to(device)
    critics = [dense(4, 1).to(device) for _ in range(2)]
    targets = [dense(4, 1).to(device) for _ in range(2)]
    for target, critic in zip(targets, critics, strict=True):
        target.load_state_dict(critic.state_dict())
    log_alpha = torch.zeros(1, device=device, requires_grad=True)
    weights = [parameter for critic in critics for parameter in critic.parameters()]
    q_step = torch.optim.Adam(weights, lr=1e-3)
    actor_step = torch.optim.Adam(actor.parameters(), lr=1e-3)
    alpha_step = torch.optim.Adam([log_alpha], lr=1e-3)
    memory = np.zeros((capacity, 3 + 1 + 1 + 3 + 1), dtype=np.float32)
    observation, _ = environments.reset(seed=0)
    for step in range(total_steps // num_envs):
        learning = step * num_envs >= learning_starts
        if learning:
            with torch.no_grad():
                x = torch.as_tensor(observation, dtype=torch.float32, device=device)
                actions = squashed(actor, x, scale)[0].cpu().numpy()
        else:
            actions = environments.action_space.sample()
        after, reward, terminated, _, _ = environments.step(actions)
        rows = np.arange(step * num_envs, (step + 1) * num_envs) % capacity
        memory[rows] = np.hstack(
            [observation, actions, reward[:, None], after, terminated[:, None]], dtype=np.float32
        )
        observation = after
        if not learning:
            continue
        for _ in range(num_envs):
            chosen = np.random.randint(0, min((step + 1) * num_envs, capacity), batch_size)
            batch = torch.as_tensor(memory[chosen], device=device)
            x, a, r, next_x, ended = batch.split([3, 1, 1, 3, 1], dim=1)
            with torch.no_grad():
                next_a, next_log_prob = squashed(actor, next_x, scale)
                both = torch.cat([next_x, next_a], 1)
                later = torch.min(*[target(both) for target in targets])
                goal = r + gamma * (1 - ended) * (later - log_alpha.exp() * next_log_prob)
            loss = sum(F.mse_loss(critic(torch.cat([x, a], 1)), goal) for critic in critics)
            q_step.zero_grad()
            loss.backward()
            q_step.step()
            chosen_a, log_prob = squashed(actor, x, scale)
            value = torch.min(*[critic(torch.cat([x, chosen_a], 1)) for critic in critics])
            actor_loss = (log_alpha.exp().detach() * log_prob - value).mean()
            actor_step.zero_grad()
            actor_loss.backward()
            actor_step.step()
            alpha_loss = (-log_alpha.exp() * (log_prob.detach() - 1)).mean()
            alpha_step.zero_grad()
            alpha_loss.backward()
            alpha_step.step()
            with torch.no_grad():
                for target, critic in zip(targets, critics, strict=True):
                    for old, new in zip(target.parameters(), critic.parameters(), strict=True):
                        old.mul_(1 - tau).add_(tau * new)
        ticks.on_train_batch_end()
    environments.close()
