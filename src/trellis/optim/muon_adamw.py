"""Muon for hidden matrices and AdamW for all else, as one optimiser."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW(torch.optim.Optimizer):
    """Orthogonalised momentum for the matrices of hidden layers, AdamW for the other parameters.

    Embeddings and their uses as output weights, vectors and kernels of convolutions are others.
    Steps of matrices are scaled to the size of AdamW's, so that one learning rate and one schedule
    serve both; only matrices and embeddings decay.

    Args:
        params: parameters of a network, or groups of them with options of their own. Those with a
            true attribute ``is_embedding`` are embeddings; objectives set it.
        lr: learning rate.
        weight_decay: of parameters with two or more dimensions.
        momentum: of the matrices.
        betas: decay rates of AdamW's two moment estimates.
        eps: added to the square root of AdamW's second moment.
        fused: one kernel for all parameters of AdamW, on the CPU as well.
    Raises:
        ValueError: no parameters.

    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, section 2.2 (scale of the steps); equal to
    ``torch.optim.Muon`` with ``adjust_lr_fn="match_rms_adamw"`` but for its rounding.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        fused: bool = True,
    ) -> None:
        given: list[Any] = [*params]
        if not any(isinstance(group, dict) for group in given):
            given = [{"params": given}]
        hidden: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in given:
            options = {"weight_decay": weight_decay, **group}
            parts = _parts([*group["params"]])
            hidden.append({**options, "params": parts[0]})
            others.append({**options, "params": parts[1]})
            others.append({**options, "params": parts[2], "weight_decay": 0.0})
        kept = [[group for group in groups if group["params"]] for groups in (hidden, others)]
        # Neither takes an empty list.
        self._parts: list[torch.optim.Optimizer] = []
        if kept[0]:
            self._parts.append(_Muon(kept[0], lr, momentum=momentum))
        if kept[1]:
            self._parts.append(torch.optim.AdamW(kept[1], lr, betas, eps, fused=fused))
        groups = [group for part in self._parts for group in part.param_groups]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self._share()

    def _share(self) -> None:
        """Let both parts work on the groups and the state that this optimiser saves and loads."""
        first = 0
        for part in self._parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[first:last], self.state
            first = last

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_parts": self._parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step of both.

        Args:
            closure: computes the loss and its gradients; called once.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


class _Muon(torch.optim.Muon):
    """torch's Muon, in float32 on a CPU.

    torch's orthogonalises in bfloat16, which on most CPUs takes 20 times as long as float32.
    Matrices of one shape are orthogonalised together.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                updates = orthogonalized(
                    torch.stack([self._momentum(p, group) for p in parameters])
                )
                size = 0.2 * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update, alpha=group["lr"] * size)

    def _momentum(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """The gradient with Nesterov's momentum."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(momentum, group["momentum"])


def orthogonalized(x: Tensor, steps: int = 5) -> Tensor:
    """Matrices with about the same singular vectors, and singular values between 0.7 and 1.2.

    Newton-Schulz iterations, in float32 on a CPU and in bfloat16 elsewhere.

    Args:
        x: ``[..., M, N]``.
        steps: iterations.
    Shape:
        -> ``[..., M, N]``

    Source: Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.775, 2.0315
    x = x.float() if x.device.type == "cpu" else x.bfloat16()
    wide = x.size(-2) <= x.size(-1)
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


def _parts(parameters: list[nn.Parameter]) -> tuple[list[nn.Parameter], ...]:
    """Matrices of hidden layers, what else decays, and what does not."""
    hidden = [p for p in parameters if p.dim() == 2 and not getattr(p, "is_embedding", False)]
    known = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in parameters if id(parameter) not in known]
    return hidden, [p for p in others if p.dim() > 1], [p for p in others if p.dim() <= 1]
