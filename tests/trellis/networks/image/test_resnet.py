"""Residual networks: published counts, shapes of the stages, blocks by hand, errors."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.networks.image.resnet import CifarResNet, ResNet


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def stages(network: nn.Module, x: Tensor) -> list[tuple[int, ...]]:
    """Shapes after each stage."""
    shapes: list[tuple[int, ...]] = []
    layers = [m for name, m in network.named_children() if name.startswith("layer")]
    hooks = [m.register_forward_hook(lambda *a: shapes.append(tuple(a[2].shape))) for m in layers]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize(
    ("depth", "expected"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)]
)
def test_resnet_has_the_published_number_of_parameters(depth: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(ResNet(3, 1000, depth=depth)) == expected


@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_cifar_resnet_has_the_published_number_of_parameters(depth: int, millions: float) -> None:
    """He et al. 2016, table 6: shortcuts of option A have no parameters."""
    with torch.device("meta"):
        network = CifarResNet(3, 10, depth=depth)
    assert parameters(network) / 1e6 == pytest.approx(millions, rel=0.02)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth


@pytest.mark.parametrize(("depth", "wide"), [(18, 1), (50, 4)])
@pytest.mark.parametrize(("stem", "first"), [("imagenet", 8), ("cifar", 32)])
def test_each_stage_halves_the_size_and_doubles_the_maps(
    depth: int, wide: int, stem: str, first: int
) -> None:
    network = ResNet(3, 5, depth=depth, stem=stem)
    expected = [(1, 64 * 2**k * wide, first // 2**k, first // 2**k) for k in range(4)]
    assert stages(network, torch.zeros(1, 3, 32, 32)) == expected


def test_cifar_resnet_has_three_stages() -> None:
    network = CifarResNet(3, 10)
    expected = [(1, 16, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8)]
    assert stages(network, torch.zeros(1, 3, 32, 32)) == expected


def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    """Batch norm in evaluation, by its formula."""
    scale, shift, mean, variance = (
        v[:, None, None] for v in (layer.weight, layer.bias, layer.running_mean, layer.running_var)
    )
    return scale * (x - mean) / (variance + layer.eps).sqrt() + shift


def randomized(block: nn.Module) -> nn.Module:
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return block.eval()


def maximum_of_neighbours(x: Tensor) -> Tensor:
    """3x3 pooling of stride 2 over an image with a border, window by window."""
    x = F.pad(x, (1, 1, 1, 1), value=-torch.inf)
    rows, columns = (x.size(2) - 1) // 2, (x.size(3) - 1) // 2
    windows = [
        x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3))
        for i in range(rows)
        for j in range(columns)
    ]
    return torch.stack(windows, -1).unflatten(-1, (rows, columns))


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_a_resnet_is_stem_stages_mean_and_map(stem: str) -> None:
    network, x = randomized(ResNet(3, 5, stem=stem)), torch.randn(2, 3, 19, 22)
    first = network.conv1.weight
    assert first.shape == ((64, 3, 7, 7) if stem == "imagenet" else (64, 3, 3, 3))
    large = stem == "imagenet"
    h = F.conv2d(x, first, stride=2 if large else 1, padding=3 if large else 1)
    h = norm(h, network.bn1).relu()
    h = maximum_of_neighbours(h) if large else h
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            h = block(h)
    mean = h.flatten(2).sum(2) / (h.size(2) * h.size(3))
    expected = mean @ network.fc.weight.t() + network.fc.bias
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_a_cifar_resnet_is_stem_stages_mean_and_map() -> None:
    network, x = randomized(CifarResNet(3, 5, depth=14)), torch.randn(2, 3, 17, 20)
    h = norm(F.conv2d(x, network.conv1.weight, padding=1), network.bn1).relu()
    for stage in (network.layer1, network.layer2, network.layer3):
        assert len(stage) == 2
        for block in stage:
            h = block(h)
    mean = h.flatten(2).sum(2) / (h.size(2) * h.size(3))
    expected = mean @ network.fc.weight.t() + network.fc.bias
    torch.testing.assert_close(network(x), expected, rtol=1e-3, atol=1e-4)


def test_a_basic_block_adds_its_input() -> None:
    block, x = randomized(ResNet(3, 5).layer1[0]), torch.randn(2, 64, 6, 6)
    h = norm(F.conv2d(x, block.conv1.weight, padding=1), block.bn1).relu()
    h = norm(F.conv2d(h, block.conv2.weight, padding=1), block.bn2)
    torch.testing.assert_close(block(x), (h + x).relu())


def test_a_basic_block_projects_where_the_shape_changes() -> None:
    block, x = randomized(ResNet(3, 5).layer2[0]), torch.randn(2, 64, 6, 6)
    h = norm(F.conv2d(x, block.conv1.weight, padding=1, stride=2), block.bn1).relu()
    h = norm(F.conv2d(h, block.conv2.weight, padding=1), block.bn2)
    shortcut, bn = block.downsample
    projected = norm(
        torch.einsum("oc,bchw->bohw", shortcut.weight[..., 0, 0], x[..., ::2, ::2]), bn
    )
    torch.testing.assert_close(block(x), (h + projected).relu(), rtol=1e-4, atol=1e-5)


def test_a_bottleneck_narrows_strides_and_widens() -> None:
    block, x = randomized(ResNet(3, 5, depth=50).layer2[0]), torch.randn(2, 256, 6, 6)
    h = norm(F.conv2d(x, block.conv1.weight), block.bn1).relu()
    h = norm(F.conv2d(h, block.conv2.weight, padding=1, stride=2), block.bn2).relu()
    h = norm(F.conv2d(h, block.conv3.weight), block.bn3)
    shortcut, bn = block.downsample
    projected = norm(
        torch.einsum("oc,bchw->bohw", shortcut.weight[..., 0, 0], x[..., ::2, ::2]), bn
    )
    assert h.shape == (2, 512, 3, 3)
    torch.testing.assert_close(block(x), (h + projected).relu(), rtol=1e-4, atol=1e-5)


def test_option_a_takes_every_second_pixel_and_pads_with_zeros() -> None:
    block = CifarResNet(3, 10).layer2[0]
    x = torch.randn(2, 16, 6, 6)
    out = block.downsample(x)
    assert out.shape == (2, 32, 3, 3)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(out[:, 8:24, row, column], x[:, :, 2 * row, 2 * column])
    assert out[:, :8].abs().max() == out[:, 24:].abs().max() == 0


def test_a_block_whose_branch_is_silent_is_the_identity() -> None:
    block = ResNet(3, 5).layer1[0].eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 64, 5, 5)
    torch.testing.assert_close(block(x), x)


def test_names_are_torchvisions() -> None:
    with torch.device("meta"):
        names = set(ResNet(3, 1000, depth=50).state_dict())
    assert len(names) == 320
    expected = {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var",
        "layer3.5.conv3.weight",
        "layer4.2.bn3.num_batches_tracked",
        "fc.bias",
    }
    assert expected <= names


def test_convolutions_start_as_he_et_al() -> None:
    for layer in ResNet(3, 5).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 20_000:
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            std = layer.weight.std().item()
            assert std == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


@pytest.mark.parametrize(
    "factory",
    [partial(ResNet, stem="cifar"), CifarResNet, partial(ResNet, depth=50)],
    ids=["cifar_stem", "cifar", "bottleneck"],
)
def test_every_parameter_learns(factory: Callable[..., nn.Module]) -> None:
    network = factory(1, 2)
    out = network.train()(torch.randn(4, 1, 17, 17))
    (out * torch.randn(4, 2)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_size_is_free() -> None:
    network = CifarResNet(2, 3, depth=8).eval()
    for size in ((32, 32), (28, 28), (9, 20)):
        assert network(torch.randn(2, 2, *size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: ResNet(3, 10, depth=20), "depth=20: choose from 18, 34, 50"),
        (lambda: ResNet(3, 10, stem="tiny"), "stem='tiny': choose from imagenet, cifar"),
        (lambda: CifarResNet(3, 10, depth=18), r"depth=18: give 6n \+ 2"),
        (lambda: CifarResNet(3, 10, depth=2), r"depth=2: give 6n \+ 2"),
        (lambda: ResNet(0, 10), "in_channels=0"),
        (lambda: CifarResNet(3, 0), "out_channels=0"),
    ],
)
def test_impossible_options_are_named(factory: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory()


@pytest.mark.parametrize("factory", [ResNet, CifarResNet])
def test_an_x_that_does_not_fit_is_named(factory: Callable[..., nn.Module]) -> None:
    network = factory(3, 2)
    with pytest.raises(ValueError, match=r"x \[2, 1, 32, 32\] does not fit \w+\(in_channels=3\)"):
        network(torch.zeros(2, 1, 32, 32))
