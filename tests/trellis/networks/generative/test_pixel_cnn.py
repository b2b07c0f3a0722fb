from typing import Any

import pytest
import torch
import torch.nn.functional as F
from discrete_cases import all_examples, check_frequencies
from torch import Tensor

from trellis.networks.generative.pixel_cnn import PixelCNN


def sharp(shape: tuple[int, ...], num_classes: int = 0, **options: Any) -> PixelCNN:
    """A network whose pixels depend on each other strongly."""
    torch.manual_seed(0)
    small = {"channels": 6, "num_layers": 2, "first_kernel_size": 3}
    network = PixelCNN(shape, num_classes, **{**small, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.5)
    return network


def label(network: PixelCNN, count: int, y: int = 1) -> Tensor | None:
    return torch.full((count,), y) if network.num_classes else None


@pytest.mark.parametrize(("kernel_size", "first_kernel_size"), [(3, 3), (5, 3), (3, 7)])
def test_a_pixel_depends_on_all_pixels_before_it_and_no_others(
    kernel_size: int, first_kernel_size: int
) -> None:
    """All pixels before it in raster order: there is no blind spot."""
    network = sharp((1, 5, 5), num_layers=4, kernel_size=kernel_size,
                    first_kernel_size=first_kernel_size).double()  # fmt: skip
    with torch.no_grad():
        for module in network.head:  # a dead unit would hide a pixel
            if isinstance(module, torch.nn.Conv2d):
                module.bias.add_(5)
    x = torch.rand(1, 5, 5, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: network.logits(x[None])[0], x)
    seen = jacobian.abs().amax(0).view(25, 25) > 0  # pixels to tell, pixels told
    assert torch.equal(seen, torch.ones(25, 25).tril(-1).bool())


def test_the_receptive_field_is_as_documented() -> None:
    network = sharp((1, 9, 17), num_layers=2, first_kernel_size=5).double()
    x = torch.rand(1, 9, 17, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda x: network.logits(x[None])[0], x)
    seen = jacobian[:, 8, 8, 0].abs().amax(0) > 0  # the pixel in the middle of the last row
    reach = 5 // 2 + 2 * (3 // 2)
    rows, columns = seen.nonzero().unbind(1)
    assert int(rows.min()) == 8 - reach
    assert (int(columns.min()), int(columns.max())) == (8 - reach, 8 + reach)


@pytest.mark.parametrize(
    ("shape", "num_levels", "num_classes"),
    [
        ((1, 3, 3), 2, 0),
        ((1, 2, 4), 2, 3),
        ((1, 2, 2), 4, 2),
        ((1, 1, 5), 3, 0),
        ((1, 5, 1), 3, 0),
        ((3, 1, 2), 3, 0),
        ((2, 2, 1), 4, 2),
    ],
)
def test_probabilities_sum_to_one_and_samples_follow_them(
    shape: tuple[int, ...], num_levels: int, num_classes: int
) -> None:
    mixtures = 2 if shape[0] > 1 else 0
    network = sharp(shape, num_classes, num_levels=num_levels, num_mixtures=mixtures)
    x = all_examples(shape, num_levels)
    with torch.no_grad():
        probabilities = network(x, label(network, len(x))).exp()
        others = network(x, label(network, len(x), 0)).exp()
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 0.01
    assert num_classes == 0 or not torch.allclose(probabilities, others, atol=1e-3)
    generator = torch.Generator().manual_seed(4)
    samples = network.sample(20_000, label(network, 20_000), generator=generator)
    check_frequencies(samples, probabilities, num_levels)


def masked(convolution: torch.nn.Conv2d, rows: int, columns: int, x: Tensor) -> Tensor:
    """The same convolution with a kernel of full size that is masked by zeros.

    Args:
        rows: of the kernel's radius; the cut kernel fills its upper left corner.
        columns: the same.
    """
    cut = convolution.weight
    full = cut.new_zeros(*cut.shape[:2], 2 * rows + 1, 2 * columns + 1)
    full[:, :, : cut.size(2), : cut.size(3)] = cut
    return F.conv2d(x, full, convolution.bias, padding=(rows, columns))


def naive_log_prob(network: PixelCNN, x: Tensor, y: Tensor | None) -> Tensor:
    """Masks A and B, one output at a time."""
    total = torch.zeros(len(x))
    _, height, width = network.shape
    for i in range(height):
        for j in range(width):
            seen = torch.rand(x.shape)  # noise where nobody may look
            seen[:, :, :i], seen[:, :, i, :j] = x[:, :, :i], x[:, :, i, :j]
            seen, r = 2 * seen - 1, network.radius
            v, h = masked(network.above, r, r, seen), masked(network.left, 0, r, seen)
            for layer in network.layers:
                r = layer.radius
                a, b = masked(layer.vertical, r, r, v), masked(layer.horizontal, 0, r, h)
                b = b + layer.link(a)
                if y is not None:
                    for_a, for_b = layer.labels.weight[y].chunk(2, 1)
                    a, b = a + for_a[:, :, None, None], b + for_b[:, :, None, None]
                channels = h.size(1)
                v = torch.tanh(a[:, :channels]) * torch.sigmoid(a[:, channels:])
                gated = torch.tanh(b[:, :channels]) * torch.sigmoid(b[:, channels:])
                h = h + layer.output(gated)
            log_probs = network.head(h)[:, :, i, j].log_softmax(1)
            level = (x[:, 0, i, j] * (network.num_levels - 1)).round().long()
            total += log_probs[torch.arange(len(x)), level]
    return total


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_masked_kernels_one_pixel_at_a_time(num_classes: int, kernel_size: int) -> None:
    network = sharp((1, 5, 6), num_classes, num_levels=3, kernel_size=kernel_size,
                    first_kernel_size=5)  # fmt: skip
    x = torch.randint(3, (4, 1, 5, 6)) / 2
    y = torch.tensor([0, 2, 1, 2]) if num_classes else None
    torch.testing.assert_close(
        network.log_prob(x, y), naive_log_prob(network, x, y), rtol=1e-4, atol=1e-4
    )


def test_samples_are_those_of_a_pass_for_each_pixel() -> None:
    network = sharp((1, 6, 5), 2, kernel_size=5, first_kernel_size=5)
    y = torch.tensor([0, 1, 1, 0])
    cached = network.sample(4, y, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(4, 1, 6, 5)
    for i in range(6):
        for j in range(5):
            chances = network.logits(x, y)[:, :, i, j].softmax(1)
            x[:, 0, i, j] = torch.multinomial(chances, 1, generator=generator)[:, 0].float()
    assert torch.equal(cached, x)
    assert not cached.requires_grad
    assert 0 < cached.mean() < 1


def test_colours_are_drawn_as_by_a_pass_for_each_pixel() -> None:
    network = sharp((3, 4, 3), num_levels=256, num_mixtures=3)
    cached = network.sample(4, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(4, 3, 4, 3)
    for i in range(4):
        for j in range(3):
            drawn = network.distribution.sample(network.logits(x)[:, :, i, j], generator)
            x[:, :, i, j] = drawn.detach()
    torch.testing.assert_close(cached, x, atol=1e-6, rtol=0)
    assert network(cached).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "num_known", "num_classes"),
    [((1, 2, 4), 3, 2), ((1, 3, 2), 2, 0), ((3, 1, 3), 1, 0)],
)
def test_completions_follow_the_distribution_given_the_known_pixels(
    shape: tuple[int, ...], num_known: int, num_classes: int
) -> None:
    levels, mixtures = (2, 2) if shape[0] > 1 else (2 if num_classes else 3, 0)
    network = sharp(shape, num_classes, num_levels=levels, num_mixtures=mixtures)
    x = all_examples(shape, levels)
    given = x[len(x) // 3]
    same = (x == given).flatten(2)[:, :, :num_known].all(2).all(1)
    with torch.no_grad():
        probabilities = network(x, label(network, len(x))).exp() * same
    images = torch.where(torch.rand(20_000, *shape) < 0.5, given, 1 - given)  # noise behind
    images.flatten(2)[:, :, :num_known] = given.flatten(1)[:, :num_known]
    generator = torch.Generator().manual_seed(4)
    drawn = network.complete(images, num_known, label(network, 20_000), generator=generator)
    assert drawn.flatten(2)[:, :, :num_known].equal(images.flatten(2)[:, :, :num_known])
    check_frequencies(drawn, probabilities / probabilities.sum(), levels)


def test_all_or_nothing_may_be_known() -> None:
    network = sharp((1, 4, 4), num_levels=256)
    x = torch.randint(256, (3, 1, 4, 4)) / 255
    assert network.complete(x, 16).equal(x)
    first, second = (torch.Generator().manual_seed(2) for _ in range(2))
    assert network.complete(x, 0, generator=first).equal(network.sample(3, generator=second))
    for num_known, message in ((-1, "num_known=-1: give at least 0"), (17, "give at most 16, th")):
        with pytest.raises(ValueError, match=message):
            network.complete(x, num_known)
    with pytest.raises(ValueError, match="x holds 0.5, which is none of the 256 levels"):
        network.complete(torch.full((3, 1, 4, 4), 0.5), 2)


def test_a_colour_depends_on_those_before_it() -> None:
    """Blue is the mean of red and green, which are random: no channel by itself says so."""
    torch.manual_seed(0)
    level = torch.randint(5, (128, 2, 1, 1))
    x = torch.cat([2 * level, level.sum(1, keepdim=True)], 1) / 8
    network = PixelCNN((3, 1, 1), num_levels=9, num_mixtures=5, channels=4, num_layers=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (-network(x).mean()).backward()
        optimizer.step()
    apart = 2 * torch.tensor(5.0).log() + 2.0  # nats of red, green and a blue by itself
    assert 2 * torch.tensor(5.0).log() - 0.1 < -network(x).mean() < apart - 0.5


def test_a_rule_between_pixels_is_learnt() -> None:
    """A chessboard and its negative: one bit in all, though each pixel alone is a coin."""
    torch.manual_seed(0)
    board = (torch.arange(4)[:, None] + torch.arange(4)) % 2
    x = torch.stack([board, 1 - board]).float().unsqueeze(1)
    network = PixelCNN((1, 4, 4), channels=6, num_layers=1, first_kernel_size=3)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (-network(x).mean()).backward()
        optimizer.step()
    bits = -network(x).mean().item() / torch.tensor(2.0).log().item()
    assert 1 - 1e-3 < bits < 1.1
    drawn = network.sample(40)
    right = (drawn[:, None] == x[None]).flatten(2).all(2)
    assert right.any(1).sum() > 35
    assert right.any(0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (784,)}, r"shape=\(784,\): give images of one channel"),
        ({"shape": (3, 8, 8)}, r"shape=\(3, 8, 8\): give images of one channel"),
        ({"shape": (3, 8), "num_mixtures": 2}, r"shape=\(3, 8\): give \(D, H, W\)"),
        ({"num_mixtures": -1}, "num_mixtures=-1: give at least 0"),
        ({"num_levels": 1}, "num_levels=1: give at least 2"),
        ({"channels": 0}, "channels=0: give at least 1"),
        ({"num_layers": 0}, "num_layers=0: give at least 1"),
        ({"kernel_size": 4}, "kernel_size=4: give an odd number, at least 3"),
        ({"first_kernel_size": 1}, "first_kernel_size=1: give an odd number, at least 3"),
    ],
)
def test_sizes_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PixelCNN(**{"shape": (1, 4, 4), **options})


def test_inputs_are_checked() -> None:
    network, conditional = sharp((1, 4, 4), num_levels=256), sharp((1, 4, 4), 2)
    with pytest.raises(ValueError, match=r"x \[5, 16\] does not fit PixelCNN\(shape=\(1, 4, 4\)"):
        network(torch.zeros(5, 16))
    with pytest.raises(ValueError, match="x holds 0.001, which is none of the 256 levels"):
        network(torch.full((1, 1, 4, 4), 0.001))
    with pytest.raises(ValueError, match="label 2 is out of range: PixelCNN"):
        conditional(torch.zeros(2, 1, 4, 4), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="y is given, but PixelCNN.* is not conditional"):
        network.sample(2, torch.zeros(2).long())
