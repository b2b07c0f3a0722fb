"""GPT, graph convolutions, flows and variational autoencoders on a GPU, beside plain loops."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from bare import BareVAE
from gpu_runs import Blocks, Setting, fit, shown_peak
from measurements import report
from torch import Tensor, nn
from torch_geometric.nn.models import GCN as PyGGCN

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.generative.variational import Variational
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.networks.generative.flow_autoregressive import NSF
from trellis.networks.generative.vae import VAE
from trellis.networks.graph.gnn import GCN
from trellis.networks.sequence.gpt import GPT
from trellis.spec import TensorSpec, TokenSpec

adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
adamw = partial(torch.optim.AdamW, lr=3e-4, fused=True)


class RandomTokens(DataModule):
    """Windows of random tokens: which ones they are takes no time."""

    def __init__(self, num_tokens: int, context: int, batch_size: int, steps: int) -> None:
        super().__init__()
        self.spec, self.batch_size, self.steps = TokenSpec(num_tokens), batch_size, steps
        generator = torch.Generator().manual_seed(0)
        shape = (8 * batch_size, context + 1)
        self.tokens = torch.randint(num_tokens, shape, generator=generator)

    def loader(self, split: str) -> Loader[Tensor]:
        return Loader(
            self.steps * self.batch_size,
            lambda i: self.tokens[i % len(self.tokens)],
            batch_size=self.batch_size,
        )


def gpt(setting: Setting, what: str, embed_dim: int, num_layers: int, batch_size: int) -> str:
    """Tokens a second of ``Trainer.fit``, compiled, beside a plain compiled loop."""
    vocabulary, context, steps, every = 50_304, 1024, 50, 10
    if setting.tiny:
        vocabulary, context, embed_dim, num_layers, batch_size, steps, every = (
            64,
            16,
            32,
            1,
            2,
            6,
            2,
        )
    data = RandomTokens(vocabulary, context, batch_size, steps)
    factory = partial(GPT, context=context, embed_dim=embed_dim, num_heads=embed_dim // 64 or 1,
                      num_layers=num_layers, bias=False)  # fmt: skip
    objective, network = CausalLM(factory, adamw), factory(vocabulary).to(setting.device)
    compiled = torch.compile(network, backend=setting.backend)
    optimizer = adamw(network.parameters())

    def plain(blocks: Blocks) -> None:
        for batch in data.train_dataloader():
            batch = batch.to(setting.device, non_blocking=True)
            with torch.autocast(setting.device, torch.bfloat16):
                logits, _ = compiled(batch[:, :-1])
                loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            blocks.on_train_batch_end()

    def ours(blocks: Blocks) -> None:
        fit(setting, objective, data, blocks, compiled=True, precision="bf16-mixed",
            gradient_clip_val=1.0)  # fmt: skip

    size = batch_size * context
    rates = setting.in_rounds({"trellis": ours, "plain loop": plain}, size, every)
    parameters = sum(p.numel() for p in network.parameters())
    report(f"{what}, {parameters / 1e6:.0f}M weights, bf16, compiled", "tokens/s", rates)
    # Chowdhery et al. 2022, appendix B: six for each weight, and attention.
    per_token = 6 * parameters + 12 * num_layers * embed_dim * context
    return shown_peak(what, rates, per_token)


def gcn(setting: Setting) -> str:
    """Steps of three layers, 500 of each side, eager and compiled, beside PyG's model."""
    nodes, edges, width, steps = (
        (100, 2_000, 8, 10) if setting.tiny else (10_000, 200_000, 64, 500)
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(nodes, width, generator=generator).to(setting.device)
    edge_index = torch.randint(nodes, (2, edges), generator=generator).to(setting.device)

    def stepped(model: nn.Module) -> Callable[[], None]:
        model.to(setting.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def step() -> None:
            optimizer.zero_grad()
            model(x, edge_index).square().mean().backward()
            optimizer.step()

        return step

    def ours() -> nn.Module:
        return GCN(width, width, hidden_channels=width, num_layers=3, dropout=0.0)

    def theirs() -> nn.Module:
        return PyGGCN(width, width, num_layers=3)

    steps_of = {
        "trellis": stepped(ours()),
        "PyG": stepped(theirs()),
        "trellis, compiled": stepped(torch.compile(ours(), backend=setting.backend)),
        "PyG, compiled": stepped(torch.compile(theirs(), backend=setting.backend)),
    }
    spans = alternated(setting, steps_of, steps)
    what = f"GCN, {nodes:,} nodes, {edges:,} edges, width {width}, a step"
    for kind in ("", ", compiled"):
        pair = {f"{side}{kind}": spans[f"{side}{kind}"] for side in ("trellis", "PyG")}
        report(f"{what}{kind}", "ms", pair)
    total = {side: sum(ms) / len(ms) * steps / 1e3 for side, ms in spans.items()}
    return f"Seconds for {steps} steps of the GCN: " + ", ".join(
        f"{side} {seconds:.2f}" for side, seconds in total.items()
    )


def flow(setting: Setting) -> str:
    """Steps of a neural spline flow, beside zuko's."""
    features, batch_size, steps = (4, 64, 10) if setting.tiny else (16, 4096, 200)
    hidden = (16, 16) if setting.tiny else (128, 128)
    x = torch.randn(batch_size, features, device=setting.device)

    def ours() -> nn.Module:
        return NSF((features,), num_transforms=3, hidden_channels=hidden).to(setting.device)

    def stepped(model: nn.Module, log_prob: Callable[[], Tensor]) -> Callable[[], None]:
        optimizer = adam(model.parameters())

        def step() -> None:
            optimizer.zero_grad()
            (-log_prob().mean()).backward()
            optimizer.step()

        return step

    eager, other = ours(), ours()
    compiled = torch.compile(other, backend=setting.backend)
    steps_of = {
        "trellis, compiled": stepped(other, lambda: compiled(x)),
        "trellis": stepped(eager, lambda: eager(x)),
    }
    if find_spec("zuko"):
        import zuko

        peer = zuko.flows.NSF(features, transforms=3, hidden_features=hidden).to(setting.device)
        steps_of["zuko"] = stepped(peer, lambda: peer().log_prob(x))
    report(f"NSF of {features} features, batch {batch_size:,}, a step", "ms",
           alternated(setting, steps_of, steps))  # fmt: skip
    return "" if find_spec("zuko") else "zuko is not installed: the flow has no peer here."


class RandomImages(DataModule):
    """Vectors of random pixels: which ones they are takes no time."""

    def __init__(self, batch_size: int, steps: int) -> None:
        super().__init__()
        self.spec, self.batch_size = TensorSpec(784, 10, values="unit"), batch_size
        generator = torch.Generator().manual_seed(0)
        self.x = torch.rand(steps * batch_size, 784, generator=generator)
        self.y = torch.zeros(steps * batch_size, dtype=torch.long)

    def loader(self, split: str) -> Iterable[Any]:
        return tensor_loader(self.x, self.y, batch_size=self.batch_size, train=True)


def vae(setting: Setting) -> str:
    """Images a second of ``Trainer.fit``, eager and compiled, beside a bare loop."""
    batch_size, steps, every = (16, 6, 2) if setting.tiny else (512, 200, 20)
    data = RandomImages(batch_size, steps)

    def loop(model: nn.Module, call: Callable[[Tensor], Tensor], blocks: Blocks) -> None:
        optimizer = adam(model.parameters())
        for x, _ in data.train_dataloader():
            loss = call(x.to(setting.device, non_blocking=True)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            blocks.on_train_batch_end()

    objective, compiled = Variational(VAE, adam), Variational(VAE, adam)
    eager, other = BareVAE().to(setting.device), BareVAE().to(setting.device)
    sides = {
        "trellis": partial(fit, setting, objective, data),
        "bare loop": partial(loop, eager, eager),
        "trellis, compiled": partial(fit, setting, compiled, data, compiled=True),
        "bare loop, compiled": partial(loop, other, torch.compile(other, backend=setting.backend)),
    }
    rates = setting.in_rounds(sides, batch_size, every)
    for kind in ("", ", compiled"):
        pair = {f"{side}{kind}": rates[f"{side}{kind}"] for side in ("trellis", "bare loop")}
        report(f"VAE of 784-400-20, batch {batch_size}{kind}", "images/s", pair)
    return ""


def alternated(
    setting: Setting, steps_of: Mapping[str, Callable[[], None]], steps: int
) -> dict[str, list[float]]:
    """Milliseconds a step of each side in each of five turns, after a few steps that compile."""
    turns, spans = 5, {side: list[float]() for side in steps_of}
    for step in steps_of.values():
        for _ in range(3):
            step()
    for _ in range(turns):
        for side, step in steps_of.items():
            setting.synchronize()
            start = time.perf_counter()
            for _ in range(steps // turns):
                step()
            setting.synchronize()
            spans[side].append(1e3 * (time.perf_counter() - start) / (steps // turns))
    return spans
