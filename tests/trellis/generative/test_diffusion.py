"""Schedules by definition, DDIM by its paper and by diffusers, exact denoisers of a Gaussian."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from trellis.generative.diffusion_bound import diffusion_bound, even_steps
from trellis.generative.diffusion_sampling import DDIM, ProbabilityFlow
from trellis.generative.noise_schedule import (
    Denoised,
    NoiseSchedule,
    denoised,
    prediction_target,
)

MEAN, SCALE = torch.tensor([0.7, -0.4]), torch.tensor([0.5, 0.2])
DATA = Normal(MEAN, SCALE)


def exact(schedule: NoiseSchedule) -> Callable[[Tensor, Tensor], Denoised]:
    """The best denoiser of a Gaussian: E[x | x_k], in closed form."""

    def denoiser(x: Tensor, steps: Tensor) -> Denoised:
        signal, noise = schedule.scales(steps, x)
        gain = signal * SCALE.square() / (signal.square() * SCALE.square() + noise.square())
        example = MEAN + gain * (x - signal * MEAN)
        return Denoised(example, (x - signal * example) / noise)

    return denoiser


def test_the_linear_schedule_is_the_product_of_its_steps() -> None:
    schedule = NoiseSchedule("linear", 10, first=0.01, last=0.3)
    left = 1.0
    for k in range(10):
        left *= 1 - (0.01 + k / 9 * 0.29)
        signal, noise = schedule.scales(torch.tensor([k]), torch.zeros(1, 2))
        assert float(signal) ** 2 == pytest.approx(left, rel=1e-5)
        assert float(noise) ** 2 == pytest.approx(1 - left, rel=1e-5)


def test_the_cosine_schedule_is_that_of_its_paper() -> None:
    schedule = NoiseSchedule("cosine", 1000)
    f = [math.cos((k / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(1001)]
    for k in (0, 1, 300, 900):
        assert float(schedule.alpha_bars[k]) == pytest.approx(f[k + 1] / f[0], rel=1e-4)
    assert schedule.log_ratios.diff().gt(0).all()


def test_steps_between_two_have_ratios_between() -> None:
    schedule = NoiseSchedule("cosine", 50)
    whole = torch.arange(50)
    torch.testing.assert_close(
        schedule.steps_of(schedule.log_ratios), whole.float(), rtol=0, atol=1e-3
    )
    between = schedule.scales(torch.tensor([7.5]), torch.zeros(1, 1))
    ratio = (between[1] / between[0]).log().squeeze()
    torch.testing.assert_close(ratio, schedule.log_ratios[7:9].mean())
    for one, other in zip(
        schedule.scales(whole, torch.zeros(50, 1)),
        schedule.scales(whole.float(), torch.zeros(50, 1)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_module_in_half_precision_keeps_its_schedule() -> None:
    schedule, x = NoiseSchedule(), torch.zeros(1, 1, dtype=torch.bfloat16)
    before = schedule.log_ratios.clone()
    schedule.to(torch.bfloat16)
    assert torch.equal(schedule.log_ratios, before)
    assert schedule.scales(torch.tensor([3]), x)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["noise", "example", "velocity"])
def test_predictions_of_the_truth_give_the_example_and_the_noise(kind: str) -> None:
    schedule, x, drawn = NoiseSchedule(num_steps=20), torch.randn(20, 3), torch.randn(20, 3)
    signal, noise = schedule.scales(torch.arange(20), x)
    noisy = signal * x + noise * drawn
    truth = prediction_target(x, drawn, signal, noise, kind)
    found = denoised(truth, noisy, signal, noise, kind)
    torch.testing.assert_close(found.example, x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.noise, drawn, rtol=1e-3, atol=1e-3)


def test_all_steps_with_new_noise_are_ddpm_by_its_paper() -> None:
    """Algorithm 2 of Ho et al. with sigma^2 the variance of the posterior, in loops."""
    schedule = NoiseSchedule("linear", 12, first=0.01, last=0.4)
    denoiser, x = exact(schedule), torch.randn(5, 2)
    found = DDIM(12, eta=1.0).sample(denoiser, schedule, x, torch.Generator().manual_seed(0))
    betas = torch.linspace(0.01, 0.4, 12)
    bars = (1 - betas).cumprod(0)
    generator = torch.Generator().manual_seed(0)
    for k in range(11, -1, -1):
        noise = denoiser(x, torch.full((5,), k)).noise
        x = (x - betas[k] / (1 - bars[k]).sqrt() * noise) / (1 - betas[k]).sqrt()
        if k > 0:
            variance = (1 - bars[k - 1]) / (1 - bars[k]) * betas[k]
            x = x + variance.sqrt() * torch.randn(5, 2, generator=generator)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_steps", [7, 50])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_is_that_of_diffusers(num_steps: int, clip: bool) -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is in the extra peers")
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, clip_sample=clip
    )
    theirs.set_timesteps(num_steps)
    schedule = NoiseSchedule("linear", 1000)
    denoiser, start = exact(schedule), torch.randn(6, 2)
    x = start
    for k in theirs.timesteps:
        x = theirs.step(denoiser(x, k.expand(6)).noise, k, x, use_clipped_model_output=clip)[0]
    found = DDIM(num_steps, clip=clip).sample(denoiser, schedule, start)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sampler", [DDIM(200), DDIM(1000, eta=1.0), ProbabilityFlow(40), ProbabilityFlow(10, "rk4")]
)
def test_samples_of_the_exact_denoiser_have_the_moments_of_the_data(sampler) -> None:
    torch.manual_seed(0)
    schedule = NoiseSchedule()
    x = sampler.sample(exact(schedule), schedule, torch.randn(20_000, 2))
    torch.testing.assert_close(x.mean(0), MEAN, rtol=0, atol=0.02)
    torch.testing.assert_close(x.std(0), SCALE, rtol=0.05, atol=0)


def test_the_probability_flow_has_the_density_of_the_data() -> None:
    torch.manual_seed(0)
    schedule, x = NoiseSchedule(), DATA.sample((20,))
    log_prob = ProbabilityFlow().log_prob(exact(schedule), schedule, x)
    torch.testing.assert_close(log_prob, DATA.log_prob(x).sum(1), rtol=0, atol=0.01)


def test_the_bound_is_the_sum_of_all_its_divergences() -> None:
    """The terms of Ho et al., eq. 5 to 7, by torch's own divergences of Gaussians."""
    torch.manual_seed(0)
    num_steps, betas = 8, torch.linspace(0.02, 0.6, 8)
    schedule = NoiseSchedule("linear", num_steps, first=0.02, last=0.6)
    denoiser, x, bars = exact(schedule), DATA.sample((100_000,)), (1 - betas).cumprod(0)
    standard = Normal(torch.zeros(2), torch.ones(2))
    terms = [kl_divergence(Normal(bars[-1].sqrt() * x, (1 - bars[-1]).sqrt()), standard)]
    for k in range(num_steps):
        noisy = bars[k].sqrt() * x + (1 - bars[k]).sqrt() * torch.randn_like(x)
        guess = denoiser(noisy, torch.full((len(x),), k)).example
        if k == 0:
            scale = ((1 - bars[0]) / bars[0]).sqrt()
            terms.append(-Normal(guess, scale).log_prob(x))
            continue
        scale = ((1 - bars[k - 1]) / (1 - bars[k]) * betas[k]).sqrt()
        of_x = bars[k - 1].sqrt() * betas[k] / (1 - bars[k])
        of_noisy = (1 - betas[k]).sqrt() * (1 - bars[k - 1]) / (1 - bars[k]) * noisy
        true, ours = (Normal(of_x * each + of_noisy, scale) for each in (x, guess))
        terms.append(kl_divergence(true, ours))
    expected = float(sum(term.sum(1).mean() for term in terms))
    bound = float(diffusion_bound(denoiser, schedule, x).mean())
    assert bound == pytest.approx(expected, abs=0.02)
    assert bound > float(DATA.entropy().sum())


def test_even_steps_are_uniform_and_spread() -> None:
    steps = even_steps(1000, 10)
    assert steps.bincount(minlength=10).tolist() == pytest.approx([100] * 10, abs=1)
    alone = torch.cat([even_steps(1, 10) for _ in range(2000)])
    assert alone.bincount(minlength=10).min() > 140


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"last=1\.5.*signal in \(0, 1\]"):
        NoiseSchedule("linear", 10, last=1.5)
    with pytest.raises(ValueError, match="first=0"):
        NoiseSchedule("linear", 10, first=0.0)
    with pytest.raises(ValueError, match=r"kind='square'.*cosine"):
        NoiseSchedule("square")
    with pytest.raises(ValueError, match=r"num_steps=60.*50"):
        DDIM(60).sample(exact(NoiseSchedule()), NoiseSchedule(num_steps=50), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="eta=2"):
        DDIM(10, eta=2)
