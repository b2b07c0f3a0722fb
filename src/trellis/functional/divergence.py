r"""Divergences and distances between discrete distributions, in nats.

Legend: K and M outcomes, N and M samples. Probabilities ``p`` and ``q`` are along the last
dimension and sum to 1 (they are not normalized here); all leading dimensions broadcast.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import can_read, check_shape

Generator = Callable[[Tensor], Tensor]  # a convex function, applied entry by entry


def kl_divergence(p: Tensor, q: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of p from q; the reverse one is ``kl_divergence(q, p)``.

    .. math:: \sum_k p_k \ln \frac{p_k}{q_k}

    Infinite where p has mass that q lacks.

    Shape:
        ``[..., K]`` each -> ``[...]``
    Raises:
        ValueError: the numbers of outcomes differ.

    >>> kl_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
    tensor(0.1438)
    """
    _check(p, q)
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


def js_divergence(p: Tensor, q: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence: symmetric, and ln 2 for disjoint supports.

    .. math:: \tfrac12 KL(p \| m) + \tfrac12 KL(q \| m), \quad m = \tfrac12 (p + q)

    Shape:
        ``[..., K]`` each -> ``[...]``
    Raises:
        ValueError: the numbers of outcomes differ.

    Source: Lin 1991, with equal weights.

    >>> js_divergence(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    _check(p, q)
    middle = (p + q) / 2
    return (kl_divergence(p, middle) + kl_divergence(q, middle)) / 2


def chi2_divergence(p: Tensor, q: Tensor) -> Tensor:
    r"""Pearson's chi-squared divergence of p from q.

    .. math:: \sum_k \frac{(p_k - q_k)^2}{q_k}

    Infinite where p has mass that q lacks.

    Shape:
        ``[..., K]`` each -> ``[...]``
    Raises:
        ValueError: the numbers of outcomes differ.

    >>> chi2_divergence(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
    tensor(0.3333)
    """
    _check(p, q)
    difference = (p - q).square()
    return torch.where(difference == 0, 0.0, difference / q).sum(-1)


def negative_entropy(p: Tensor) -> Tensor:
    r"""The generator :math:`p \ln p` of KL divergences."""
    return torch.xlogy(p, p)


def adversarial(p: Tensor) -> Tensor:
    r"""The generator :math:`p \ln p - (p + 1) \ln (p + 1)` of the minimax GAN's divergence."""
    return torch.xlogy(p, p) - torch.xlogy(p + 1, p + 1)


def squared_deviation(p: Tensor) -> Tensor:
    r"""The generator :math:`(1 - p)^2` of Pearson's divergence and of least squares."""
    return (1 - p).square()


def bregman_divergence(p: Tensor, q: Tensor, generator: Generator) -> Tensor:
    r"""Bregman divergence: the gap between a convex function and its tangent at q.

    .. math:: \sum_k F(p_k) - F(q_k) - F'(q_k) (p_k - q_k)

    ``negative_entropy`` gives the generalised KL divergence :math:`\sum_k p_k \ln (p_k / q_k) +
    q_k - p_k`, ``squared_deviation`` the squared distance. Entries need not be probabilities.

    Args:
        p: where the gap is measured.
        q: the point of tangency; in the interior of the domain of the generator.
        generator: F, differentiable.
    Shape:
        ``[..., K]`` each -> ``[...]``
    Raises:
        ValueError: the numbers of outcomes differ.

    Source: Bregman 1967.

    >>> bregman_divergence(torch.tensor([1.0]), torch.tensor([2.0]), negative_entropy)
    tensor(0.3069)
    """
    _check(p, q)
    return (generator(p) - generator(q) - _derivative(generator, q) * (p - q)).sum(-1)


def f_divergence(p: Tensor, q: Tensor, generator: Generator) -> Tensor:
    r"""f-divergence of p from q: the mean gap between F(p / q) and the tangent of F at 1.

    .. math:: \sum_k q_k \left[F(u_k) - F(1) - F'(1) (u_k - 1)\right], \quad u_k = p_k / q_k

    It is the Bregman divergence of the ratio p / q from 1, weighted with q: ``negative_entropy``
    gives :math:`KL(p \| q)`, ``adversarial`` twice the Jensen-Shannon divergence,
    ``squared_deviation`` Pearson's.

    Args:
        p: probabilities.
        q: probabilities, none of them 0.
        generator: F, differentiable.
    Shape:
        ``[..., K]`` each -> ``[...]``
    Raises:
        ValueError: the numbers of outcomes differ, or (on a CPU) a q of 0.

    Source: Ali and Silvey 1966; Nowozin et al. 2016, table 1 (GANs).

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> f_divergence(p, q, squared_deviation)
    tensor(0.3333)
    """
    _check(p, q)
    if can_read(q) and not bool((q > 0).all()):
        raise ValueError("q has an outcome of probability 0: f_divergence divides by q")
    one, ratio = torch.ones_like(q), p / q
    return (
        q * (generator(ratio) - generator(one) - _derivative(generator, one) * (ratio - 1))
    ).sum(-1)


def _derivative(generator: Generator, at: Tensor) -> Tensor:
    with torch.enable_grad():
        point = at if at.requires_grad else at.detach().requires_grad_()
        derivative = torch.autograd.grad(
            generator(point).sum(), point, create_graph=at.requires_grad
        )
    return derivative[0]


def wasserstein_1d(
    x: Tensor, y: Tensor, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> Tensor:
    r"""Wasserstein-1 distance of two samples on the line: the area between their CDFs.

    .. math:: \int |F_x(t) - F_y(t)| \, dt

    Differentiable in the samples.

    Args:
        x: one sample.
        y: the other.
        x_weights: probabilities of the x; equal by default.
        y_weights: probabilities of the y; equal by default.
    Shape:
        x ``[N]``, y ``[M]``, weights like them -> scalar
    Raises:
        ValueError: another shape, or an empty sample.

    Source: Vallender 1974.

    >>> wasserstein_1d(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 6.0]))
    tensor(5.)
    """
    weights = []
    for name, values, given in (("x", x, x_weights), ("y", y, y_weights)):
        if values.dim() != 1 or len(values) == 0:
            raise ValueError(f"{name} {list(values.shape)}: give numbers [N], at least one")
        given = torch.ones_like(values) / len(values) if given is None else given
        check_shape(f"{name}_weights", given, values.shape, f"each {name}")
        weights.append(given)
    points, order = torch.cat([x, y]).sort()
    steps = torch.cat([weights[0], -weights[1]])[order]
    return (steps.cumsum(0)[:-1].abs() * points.diff()).sum()


class Transport(NamedTuple):
    """An optimal transport plan and its dual.

    Args:
        distance: the total cost: Wasserstein-1, if the costs are distances.
        plan: mass moved from each outcome to each, ``[K, M]``; its marginals are p and q.
        x_potential: ``[K]``, and
        y_potential: ``[M]``: solution of the dual problem; the sum of a pair is at most its cost,
            and their expectations under p and q add up to ``distance``.
    """

    distance: float
    plan: Tensor
    x_potential: Tensor
    y_potential: Tensor


def optimal_transport(p: Tensor, q: Tensor, cost: Tensor) -> Transport:
    r"""Optimal transport between two distributions, by linear programming.

    .. math:: \min_{T \ge 0} \sum_{km} T_{km} c_{km}
        \quad\text{with}\quad \sum_m T_{km} = p_k,\ \sum_k T_{km} = q_m

    Exact, in double precision on the CPU, and not differentiable; for up to some hundred outcomes.

    Args:
        p: probabilities of the sources.
        q: probabilities of the targets.
        cost: of moving a unit of mass from each source to each target.
    Shape:
        p ``[K]``, q ``[M]``, cost ``[K, M]``
    Raises:
        ValueError: shapes that do not fit, or masses that differ or are negative.

    Source: Kantorovich 1942.

    >>> p, q = torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.75])
    >>> round(optimal_transport(p, q, torch.tensor([[0.0, 2.0], [2.0, 0.0]])).distance, 6)
    1.5
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    if p.dim() != 1 or q.dim() != 1 or cost.shape != (len(p), len(q)):
        raise ValueError(
            f"p {list(p.shape)}, q {list(q.shape)} and cost {list(cost.shape)}: give [K], [M] and "
            f"[K, M]"
        )
    mass, prices = torch.cat([p, q]).detach().double().cpu(), cost.detach().double().cpu()
    if abs(float(mass[: len(p)].sum() - mass[len(p) :].sum())) > 1e-5 or bool((mass < 0).any()):
        raise ValueError(
            f"p adds up to {float(p.sum()):.6g}, q to {float(q.sum()):.6g}: give probabilities"
        )
    mass[len(p) :] *= mass[: len(p)].sum() / mass[len(p) :].sum()  # float32 sums differ
    ones_k, ones_m = torch.ones(1, len(p)).numpy(), torch.ones(1, len(q)).numpy()
    sums = vstack([kron(eye_array(len(p)), ones_m), kron(ones_k, eye_array(len(q)))])
    found = linprog(prices.flatten().numpy(), A_eq=sums.tocsc(), b_eq=mass.numpy())
    if not found.success:
        raise ValueError(f"optimal_transport found no plan: {found.message}")
    x_potential, y_potential = torch.as_tensor(found.eqlin.marginals).split([len(p), len(q)])
    plan = torch.as_tensor(found.x).view(len(p), len(q))
    return Transport(float(found.fun), plan, x_potential, y_potential)


def _check(p: Tensor, q: Tensor) -> None:
    if p.dim() == 0 or q.dim() == 0 or p.size(-1) != q.size(-1):
        raise ValueError(
            f"p {list(p.shape)} and q {list(q.shape)}: give the same outcomes, [..., K]"
        )
