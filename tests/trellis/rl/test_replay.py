"""What a buffer holds beside a plain list, and how often each transition is sampled."""

import io

import pytest
import torch

from trellis.rl.prioritized_replay import PrioritizedReplay
from trellis.rl.replay import ReplayBatch, ReplayBuffer, Transitions


def transitions(first: int, count: int) -> Transitions:
    """Transitions that carry their number in every field."""
    number = torch.arange(first, first + count)
    return Transitions(
        observations=number[:, None].float() + torch.tensor([0.0, 0.25]),
        actions=number % 5,
        rewards=-number.float(),
        next_observations=number[:, None].float() + torch.tensor([0.5, 0.75]),
        terminated=number % 3 == 0,
        discounts=0.9 ** (number % 4).float(),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prioritized(count: int, **options) -> PrioritizedReplay:
    replay = PrioritizedReplay(ReplayBuffer(max(count, 1), (2,)), **options)
    replay.add(transitions(0, count))
    return replay


def test_the_last_ones_are_kept() -> None:
    """Batches of all sizes around the end of the storage, as a list of the last ten has them."""
    buffer, kept, first = ReplayBuffer(10, (2,)), [], 0
    for count in (3, 4, 2, 5, 1, 10, 7, 0, 9):
        where = buffer.add(transitions(first, count))
        kept = (kept + list(range(first, first + count)))[-10:]
        first += count
        assert len(buffer) == len(kept)
        held = buffer.take(torch.arange(len(buffer)))
        assert sorted(-held.rewards) == [float(number) for number in kept]
        for number, reward in zip(range(first - count, first), held.rewards[where], strict=True):
            assert reward == -number
        for stored in zip(*held, strict=True):
            expected = transitions(int(-stored[2]), 1)
            for a, b in zip(stored, expected, strict=True):
                assert torch.equal(a, b[0])


def test_draws_are_even_and_repeatable() -> None:
    buffer = ReplayBuffer(8, (2,))
    buffer.add(transitions(0, 5))
    counts = (-buffer.sample(50_000, generator()).rewards).long().bincount(minlength=8)
    assert counts[5:].sum() == 0
    # A count of 50,000 draws of probability 1/5 deviates by 89.
    assert float((counts[:5] - 10_000).abs().max()) < 400
    first, second = buffer.sample(6, generator(1)), buffer.sample(6, generator(1))
    assert torch.equal(first.rewards, second.rewards)
    assert first.observations.shape == (6, 2)


def test_real_actions_and_pixels() -> None:
    buffer = ReplayBuffer(4, (1, 8, 8), (3,), observation_dtype=torch.uint8)
    image = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    action = torch.randn(2, 3)
    ones = torch.ones(2)
    buffer.add(Transitions(image, action, ones, image, ones > 2, ones))
    held = buffer.take(torch.tensor([1, 0]))
    assert torch.equal(held.observations, image.flip(0))
    assert torch.equal(held.actions, action.flip(0))
    assert buffer.storage.observations.dtype == torch.uint8


@pytest.mark.parametrize("count", [0, 3, 6, 12])
def test_a_restored_buffer_goes_on_alike(count) -> None:
    buffers = [PrioritizedReplay(ReplayBuffer(7, (2,))) for _ in range(3)]
    running, from_file, from_state = buffers
    for first in range(0, count, 3):
        running.add(transitions(first, 3))
    if count:
        running.update(torch.tensor([0, 2]), torch.tensor([5.0, 0.1]))
    state, file = running.state_dict(), io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    from_file.load_state_dict(torch.load(file, weights_only=True))
    running.add(transitions(50, 2))
    drawn = [running.sample(20, 0.4, generator(3))]
    running.add(transitions(70, 7))  # what was taken before may not see this
    from_state.load_state_dict(state)
    for buffer in (from_file, from_state):
        buffer.add(transitions(50, 2))
        drawn.append(buffer.sample(20, 0.4, generator(3)))
    for other in drawn[1:]:
        assert torch.equal(drawn[0].indices, other.indices)
        assert torch.equal(drawn[0].weights, other.weights)
        for a, b in zip(drawn[0].transitions, other.transitions, strict=True):
            assert torch.equal(a, b)
    assert len(from_file) == len(from_state) == min(count + 2, 7)


def test_draws_follow_priorities() -> None:
    """The probabilities and weights of the paper's equations, by a plain sum."""
    errors = torch.tensor([0.0, 1.0, -2.0, 0.5, 4.0]).double()
    replay = prioritized(5, alpha=0.7, epsilon=0.01)
    replay.update(torch.arange(5), errors)
    priorities = [(abs(float(error)) + 0.01) ** 0.7 for error in errors]
    probabilities = torch.tensor([p / sum(priorities) for p in priorities]).double()
    sample = replay.sample(100_000, beta=0.5, generator=generator())
    found = sample.indices.bincount(minlength=5) / 100_000
    torch.testing.assert_close(found.double(), probabilities, atol=2e-4, rtol=0)
    weights = (5 * probabilities) ** -0.5
    torch.testing.assert_close(sample.weights, (weights / weights.max()).float()[sample.indices])
    assert torch.equal(-sample.transitions.rewards, sample.indices.float())
    assert {int(replay.sample(1, 0.5, generator(seed)).indices) for seed in range(20)} >= {1, 2, 4}


def test_weights_take_the_bias_back() -> None:
    """With beta 1 the weighted mean of anything is that of an even draw."""
    replay = prioritized(50, alpha=1.0)
    replay.update(torch.arange(50), torch.arange(1.0, 51.0))
    sample = replay.sample(200_000, beta=1.0, generator=generator(1))
    rewards, weights = sample.transitions.rewards, sample.weights
    assert float((weights * rewards).sum() / weights.sum()) == pytest.approx(-24.5, abs=0.1)
    # Without the weights it is sum i (i + 1) / sum (i + 1).
    assert float(rewards.mean()) == pytest.approx(-41650 / 1275, abs=0.1)


def test_alpha_zero_is_an_even_draw() -> None:
    replay = prioritized(6, alpha=0.0)
    replay.update(torch.arange(6), torch.tensor([0.0, 1, 2, 3, 4, 100]))
    sample = replay.sample(60_000, beta=0.7, generator=generator())
    assert float((sample.indices.bincount(minlength=6) - 10_000).abs().max()) <= 1
    assert torch.equal(sample.weights, torch.ones(60_000))


def test_new_ones_come_first() -> None:
    replay = PrioritizedReplay(ReplayBuffer(4, (2,)), alpha=1.0)
    replay.add(transitions(0, 3))
    replay.update(torch.arange(3), torch.tensor([9.0, 1e-3, 1e-3]))
    replay.update(torch.tensor([0]), torch.tensor([1e-3]))
    replay.add(transitions(3, 1))
    assert replay.tree.get(torch.tensor([3])).item() == pytest.approx(9.0)
    drawn = replay.sample(1000, beta=0.4, generator=generator())
    assert int((drawn.indices == 3).sum()) > 990
    replay.add(transitions(4, 1))  # it takes the place of the first, priority and all
    assert replay.tree.get(torch.tensor([0])).item() == pytest.approx(9.0)


def test_bad_input() -> None:
    buffer = ReplayBuffer(4, (2,))
    with pytest.raises(ValueError, match="capacity=0: give at least 1"):
        ReplayBuffer(0, (2,))
    with pytest.raises(ValueError, match="the replay buffer is empty"):
        buffer.sample(2)
    with pytest.raises(ValueError, match="5 transitions at once: capacity=4 is less"):
        buffer.add(transitions(0, 5))
    good = transitions(0, 2)
    with pytest.raises(ValueError, match=r"actions \[2\] of torch.float32: give \[2\] of torch.i"):
        buffer.add(good._replace(actions=good.rewards))
    with pytest.raises(ValueError, match=r"observations \[2, 1\] .*: give \[2, 2\]"):
        buffer.add(good._replace(observations=good.observations[:, :1]))
    buffer.add(good)
    with pytest.raises(ValueError, match="batch_size=0: give at least 1"):
        buffer.sample(0)
    with pytest.raises(ValueError, match="saved buffer has capacity=4, this one 5"):
        ReplayBuffer(5, (2,)).load_state_dict(buffer.state_dict())
    with pytest.raises(ValueError, match=r"saved observations \[2, 2\] .* of this environment"):
        ReplayBuffer(4, (3,)).load_state_dict(buffer.state_dict())


def test_bad_priorities() -> None:
    with pytest.raises(ValueError, match="alpha=1.5: give a probability"):
        prioritized(3, alpha=1.5)
    with pytest.raises(ValueError, match="epsilon=0.0: give a small positive"):
        prioritized(3, epsilon=0.0)
    with pytest.raises(ValueError, match="the replay buffer is empty"):
        PrioritizedReplay(ReplayBuffer(3, (2,))).sample(1, 0.4)
    replay = prioritized(3)
    with pytest.raises(ValueError, match="beta=2.0"):
        replay.sample(1, 2.0)
    with pytest.raises(ValueError, match=r"indices \[2\] and errors \[2, 1\]"):
        replay.update(torch.tensor([0, 1]), torch.ones(2, 1))
    with pytest.raises(ValueError, match="errors hold NaN or infinity: the loss has diverged"):
        replay.update(torch.tensor([0]), torch.tensor([float("nan")]))
    with pytest.raises(ValueError, match="buffer holds 3 transitions: give an empty one"):
        PrioritizedReplay(replay.buffer)


def test_losses_are_weighed_only_by_priorities() -> None:
    """Of one critic or of several; without priorities the weights do not count."""
    weights, some = torch.tensor([1.0, 0.5, 0.0]), transitions(0, 3)
    losses = torch.tensor([[2.0, 4.0, 9.0], [1.0, 1.0, 1.0]])
    weighed = ReplayBatch(some, weights, torch.arange(3))
    assert weighed.mean(losses[0]).item() == pytest.approx(4 / 3)
    torch.testing.assert_close(weighed.mean(losses), torch.tensor([4 / 3, 1.5 / 3]))
    even = ReplayBatch(some, weights)
    torch.testing.assert_close(even.mean(losses), torch.tensor([5.0, 1.0]))
