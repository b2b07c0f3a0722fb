"""What a diffusion's samplers make of its network: quality beside evaluations.

    python tests/benchmarks/sampler_quality.py CHECKPOINT [--samples 1000] [--write BENCHMARKS.md]

CHECKPOINT is that of a ``Diffusion`` of images, as of ``trellis reproduce diffusion-mnist``; the
distances are those of ``ClassifierScores`` to test images, whose classifier is trained if it is
not there.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from measurements import machine, write_section

import trellis
from trellis.datamodules.image import MNIST
from trellis.generative import DDIM, ProbabilityFlow
from trellis.lightning_modules.callbacks.image_classifier import (
    cache_folder,
    image_classifier,
    split_images,
)
from trellis.lightning_modules.generative.sampling import draw_samples
from trellis.metrics.frechet import frechet_distance, moments

SAMPLERS = {
    "DDIM, 10 steps": DDIM(10),
    "DDIM, 50 steps": DDIM(50),
    "DDPM, 1,000 steps": DDIM(1000, eta=1.0),
    "Heun, 18 steps": ProbabilityFlow(18, "heun"),
}


def rows(objective: Any, data: Any, num_samples: int) -> list[str]:
    """A line of the table for each sampler, and one for real images."""
    classifier = image_classifier(data, cache_folder(data))
    real = split_images(data, "test", 2 * num_samples)
    features = [classifier(half)[0] for half in real.chunk(2)]
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    objective.network.register_forward_pre_hook(count)
    lines = [_row("other test images", "", "", frechet_distance(*map_moments(features)))]
    for name, sampler in SAMPLERS.items():
        objective.sampler, calls, start = sampler, 0, time.perf_counter()
        drawn = draw_samples(objective, num_samples, seed=0, batch_size=num_samples)
        seconds = time.perf_counter() - start
        distance = frechet_distance(*map_moments([classifier(drawn.cpu())[0], features[0]]))
        lines.append(_row(name, str(calls), f"{1000 * seconds / num_samples:.1f}", distance))
        print(lines[-1], flush=True)
    return lines


def map_moments(features: list[torch.Tensor]) -> list[Any]:
    """Means and covariances of two sets, as ``frechet_distance`` takes them."""
    return [part for each in features for part in moments(each)]


def _row(*cells: Any) -> str:
    *texts, distance = cells
    return "| " + " | ".join([*texts, f"{distance:.3f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    objective = trellis.load(args.checkpoint).eval()
    data = MNIST(pixels="dequantized")
    data.setup()
    head = [
        f"Fréchet distance of a small classifier's features, {args.samples} samples of "
        f"`{objective.network.__class__.__name__}` with "
        f"{sum(p.numel() for p in objective.network.parameters()):,} parameters.",
        "",
        "| sampler | evaluations | ms a sample | distance |",
        "|---|---|---|---|",
    ]
    text = "\n".join(
        ["## Samplers", "", machine(), "", *head, *rows(objective, data, args.samples)]
    )
    print(text)
    if args.write:
        write_section(args.write, "samplers", text)


if __name__ == "__main__":
    main()
