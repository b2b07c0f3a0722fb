"""What a generative model draws, and the density it has learnt; training never feels it."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from trellis.analysis.images import image_picture, image_shape
from trellis.analysis.pictures import empty_figure
from trellis.analysis.points import density_picture, flow_grid_picture, scatter_picture
from trellis.checks import at_least_one
from trellis.generative.transform import Transform
from trellis.labels import balanced_labels
from trellis.lightning_modules.callbacks.after_fit import evaluation, validation_batches
from trellis.lightning_modules.engine.logging import log_picture
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.sampling import draw_samples, require_samples
from trellis.spec import TensorSpec


class SampleGrid(L.Callback):
    """Samples as a picture, ``val/samples``, while training and at its end.

    Images stand in a grid, points in the plane are dots. The draws are the same each time, so the
    pictures of a run show one set of samples becoming better. A conditional model draws its
    classes in turn, one a column.

    Args:
        num_samples: to draw.
        every_n_epochs: pause between two pictures; one more is drawn when training ends.
        seed: of the draws.
    Raises:
        ValueError: the objective has no ``sample``, or examples are neither images nor points in
            the plane.
    """

    def __init__(self, num_samples: int = 64, every_n_epochs: int = 1, seed: int = 0) -> None:
        self.num_samples = at_least_one("num_samples", num_samples)
        self.every_n_epochs = at_least_one("every_n_epochs", every_n_epochs)
        self.seed = seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # matplotlib is an extra
        require_samples("SampleGrid", pl_module)
        spec = data_spec(trainer, pl_module)
        if not isinstance(spec, TensorSpec) or spec.shape != (2,):
            require_images("SampleGrid", spec)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.state.fn == "fit" and not trainer.sanity_checking and due:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module)

    @rank_zero_only
    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        spec: Any = pl_module.spec
        with trainer.precision_plugin.forward_context():
            x = draw_samples(pl_module, self.num_samples, seed=self.seed).float()
        in_turn = bool(getattr(pl_module, "conditional", False))
        if spec.shape == (2,):
            labels = balanced_labels(len(x), spec.out_channels) if in_turn else None
            figure = scatter_picture(x, labels)
        else:
            figure = image_picture(x, spec, columns=spec.out_channels if in_turn else None)
        log_picture(trainer, "val/samples", figure)


class DensityPicture(L.Callback):
    """The density that was learnt beside validation points, ``val/density``, after a fit.

    Args:
        num_points: of the data to show.
        resolution: points of the grid along each axis.
    Raises:
        ValueError: the objective is not ``DensityEstimation`` without labels, or the data no
            points in the plane.
    """

    def __init__(self, num_points: int = 2000, resolution: int = 200) -> None:
        self.num_points = at_least_one("num_points", num_points)
        self.resolution = at_least_one("resolution", resolution)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _require_plane("DensityPicture", trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        found = first_examples(trainer, self.num_points)
        if found is None:
            return

        like = next(pl_module.parameters())  # perhaps in double precision

        def log_prob(x: Tensor) -> Tensor:
            return pl_module(x.to(like)).float()

        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            figure = density_picture(log_prob, found[0], resolution=self.resolution)
        log_picture(trainer, "val/density", figure)


class FlowGrid(L.Callback):
    """A grid of noise and where the flow takes it, ``val/flow_grid``, after a fit.

    Args:
        reach: the grid covers ``[-reach, reach]`` along both axes.
        lines: along each axis.
    Raises:
        ValueError: the objective is not ``DensityEstimation`` without labels, its network no flow,
            or the data no points in the plane.
    """

    def __init__(self, reach: float = 3.0, lines: int = 21) -> None:
        if not reach > 0:
            raise ValueError(f"reach={reach}: give more than 0")
        self.reach, self.lines = reach, at_least_one("lines", lines)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        _require_plane("FlowGrid", trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _transform(pl_module)  # or refuse now, not after the training

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        transform, like = _transform(pl_module), next(pl_module.parameters())

        def to_data(z: Tensor) -> Tensor:
            return transform.inverse(z.to(like))[0].float()

        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            figure = flow_grid_picture(to_data, reach=self.reach, lines=self.lines)
        log_picture(trainer, "val/flow_grid", figure)


def _transform(pl_module: L.LightningModule) -> Transform:
    """The outermost transform of a flow."""
    network: Any = pl_module.network
    for module in network.modules():
        if isinstance(module, Transform):
            return module
    raise ValueError(
        f"FlowGrid shows how a flow bends the plane, and {type(network).__name__} is none: "
        f"leave the callback out"
    )


def _require_plane(asker: str, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    empty_figure(1, 1)  # matplotlib is an extra
    if not isinstance(pl_module, DensityEstimation) or pl_module.conditional:
        what = f"{'conditional ' * isinstance(pl_module, DensityEstimation)}"
        raise ValueError(
            f"{asker} works with DensityEstimation without labels, not with "
            f"{what}{type(pl_module).__name__}"
        )
    if (shape := data_spec(trainer, pl_module).shape) != (2,):
        raise ValueError(f"{asker} draws the plane, but examples have shape {list(shape)}")


def data_spec(trainer: L.Trainer, pl_module: L.LightningModule) -> Any:
    """What is known of the data before the networks are built."""
    offered = getattr(trainer.datamodule, "spec", None)  # type: ignore[attr-defined]
    return pl_module.spec if offered is None else offered


def first_examples(trainer: L.Trainer, number: int) -> tuple[Tensor, Tensor] | None:
    """Up to ``number`` validation examples and labels; ``None`` where there are none."""
    parts: list[tuple[Tensor, Tensor]] = []
    for x, y in validation_batches(trainer):
        parts.append((x[:number], y[:number]))
        number -= len(parts[-1][0])
        if number == 0:
            break
    if not parts:
        return None
    examples, labels = zip(*parts, strict=True)
    return torch.cat(examples), torch.cat(labels)


def require_images(asker: str, spec: Any) -> None:
    """Refuse data that is no images of one colour or three.

    Raises:
        ValueError: names who asks and what the data is.
    """
    if not isinstance(spec, TensorSpec):
        raise ValueError(f"{asker} draws images, which a {type(spec).__name__} does not describe")
    try:
        channels = image_shape(spec)[0]
    except ValueError as error:
        raise ValueError(f"{asker}: {error}") from None
    if channels not in (1, 3):
        raise ValueError(f"{asker}: images of {channels} channels cannot be shown")
