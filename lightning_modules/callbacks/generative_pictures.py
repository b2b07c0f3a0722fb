"""Pictures of samples, densities and flows, which leave the random state of a run alone."""

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from trellis.analysis.images import image_picture, image_shape
from trellis.analysis.pictures import empty_figure
from trellis.analysis.points import density_picture, flow_grid_picture, scatter_picture
from trellis.checks import at_least_one, positive
from trellis.generative.transform import Transform
from trellis.labels import balanced_labels
from trellis.lightning_modules.callbacks.after_fit import (
    PictureAfterFit,
    evaluation,
    report,
    validation_batches,
)
from trellis.lightning_modules.engine.logging import log_picture
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.sampling import draw_samples, require_samples
from trellis.spec import TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class SampleGrid(L.Callback):
    """Plots samples, ``val/samples``, during and after training.

    Images are shown in a grid, points in the plane as a scatter plot. The random numbers are the
    same each time, so that the pictures of a run show how one set of samples develops. Those of
    a conditional model have one class in each column.

    Args:
        num_samples: of a picture.
        every_n_epochs: epochs between two pictures; one more follows when training ends.
        seed: of the random numbers.
    Raises:
        ValueError: the objective has no ``sample`` or is conditional on real targets, or examples
            are neither images nor points in the plane.
    """

    def __init__(self, num_samples: int = 64, every_n_epochs: int = 1, seed: int = 0) -> None:
        self.num_samples = at_least_one("num_samples", num_samples)
        self.every_n_epochs = at_least_one("every_n_epochs", every_n_epochs)
        self.seed = seed

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        empty_figure(1, 1)  # matplotlib is an extra
        require_samples("SampleGrid", pl_module)
        spec = data_spec(trainer, pl_module)
        if getattr(pl_module, "conditional", False) and getattr(spec, "targets", "") == "real":
            raise ValueError(
                "SampleGrid shows samples of all classes, but this model is conditional on real "
                "targets: leave it out, and give trellis generate --context for a picture"
            )
        if not isinstance(spec, TensorSpec) or spec.shape != (2,):
            require_images("SampleGrid", spec)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.state.fn == "fit" and not trainer.sanity_checking and due:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._draw(trainer, pl_module)

    @report
    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        spec: Any = pl_module.spec
        with trainer.precision_plugin.forward_context():
            x = draw_samples(pl_module, self.num_samples, seed=self.seed).float()
        conditional = bool(getattr(pl_module, "conditional", False))
        if spec.shape == (2,):
            labels = balanced_labels(len(x), spec.out_channels) if conditional else None
            figure = scatter_picture(x, labels)
        else:
            figure = image_picture(x, spec, columns=spec.out_channels if conditional else None)
        log_picture(trainer, "val/samples", figure)


class DensityPicture(PictureAfterFit):
    """Plots the learnt density next to validation points, ``val/density``, after a fit.

    Args:
        num_points: validation points to show.
        resolution: points of the grid along each axis.
    Raises:
        ValueError: the objective is not an unconditional ``DensityEstimation``, or the data are
            not points in the plane.
    """

    key = "val/density"

    def __init__(self, num_points: int = 2000, resolution: int = 200) -> None:
        self.num_points = at_least_one("num_points", num_points)
        self.resolution = at_least_one("resolution", resolution)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        _require_plane("DensityPicture", trainer, pl_module)

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        if (found := first_examples(trainer, self.num_points)) is None:
            return None
        like = next(pl_module.parameters())  # of whichever precision

        def log_prob(x: Tensor) -> Tensor:
            return pl_module(x.to(like)).float()

        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            return density_picture(log_prob, found[0], resolution=self.resolution)


class FlowGrid(PictureAfterFit):
    """Plots a grid in noise space and its image under the flow, ``val/flow_grid``, after a fit.

    Args:
        reach: the grid covers ``[-reach, reach]`` along both axes.
        lines: along each axis.
    Raises:
        ValueError: the objective is not an unconditional ``DensityEstimation``, its network is not
            a flow, or the data are not points in the plane.
    """

    key = "val/flow_grid"

    def __init__(self, reach: float = 3.0, lines: int = 21) -> None:
        if not reach > 0:
            raise ValueError(f"reach={reach}: give more than 0")
        self.reach, self.lines = reach, at_least_one("lines", lines)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        _require_plane("FlowGrid", trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _transform(pl_module)  # refuses another network now, not after the training

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        transform, like = _transform(pl_module), next(pl_module.parameters())

        def to_data(z: Tensor) -> Tensor:
            return transform.inverse(z.to(like))[0].float()

        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            return flow_grid_picture(to_data, reach=self.reach, lines=self.lines)


class CompletionGrid(PictureAfterFit):
    """Plots validation images whose lower part is drawn anew, ``val/completions``, after a fit.

    Each row begins with a whole image and goes on with completions of its upper part.

    Args:
        num_images: rows.
        num_completions: of each image.
        known_rows: rows of pixels that are known; ``None`` takes the upper half.
        seed: of the random numbers.
    Raises:
        ValueError: the objective is not a ``DensityEstimation``, its network has no ``complete``,
            the data are no images, or they have fewer rows.
    """

    key = "val/completions"

    def __init__(
        self,
        num_images: int = 8,
        num_completions: int = 7,
        known_rows: int | None = None,
        seed: int = 0,
    ) -> None:
        self.num_images = at_least_one("num_images", num_images)
        self.num_completions = at_least_one("num_completions", num_completions)
        self.known_rows, self.seed = positive("known_rows", known_rows), seed

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        if not isinstance(pl_module, DensityEstimation):
            name = type(pl_module).__name__
            raise ValueError(f"CompletionGrid works with DensityEstimation, not with {name}")
        require_images("CompletionGrid", spec := data_spec(trainer, pl_module))
        if len(spec.size) != 2 or (self.known_rows or 0) > spec.size[0]:
            raise ValueError(
                f"CompletionGrid: known_rows={self.known_rows} of examples {list(spec.shape)}: "
                f"give images (C, H, W), and at most H rows"
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        network: Any = pl_module.network
        if not callable(getattr(network, "complete", None)):
            raise ValueError(
                f"CompletionGrid needs a network with complete(x, num_known), such as PixelCNN, "
                f"not {type(network).__name__}: leave the callback out"
            )

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        if (found := first_examples(trainer, self.num_images)) is None:
            return None
        spec: Any = pl_module.spec
        network: Any = pl_module.network
        x, y = (part.repeat_interleave(1 + self.num_completions, 0) for part in found)
        rows = self.known_rows or spec.size[0] // 2
        labels = (y,) if pl_module.conditional else ()
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            torch.manual_seed(self.seed)
            completed = network.complete(x, rows * spec.size[1], *labels).float()
        completed[:: 1 + self.num_completions] = found[0]
        return image_picture(completed.cpu(), spec, columns=1 + self.num_completions)


def _transform(pl_module: L.LightningModule) -> Transform:
    """The outermost transform of a flow."""
    network: Any = pl_module.network
    for module in network.modules():
        if isinstance(module, Transform):
            return module
    raise ValueError(
        f"FlowGrid shows the transform of a flow, but {type(network).__name__} is not a flow: "
        f"leave the callback out"
    )


def _require_plane(caller: str, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    if not isinstance(pl_module, DensityEstimation) or pl_module.conditional:
        what = f"{'conditional ' * isinstance(pl_module, DensityEstimation)}"
        raise ValueError(
            f"{caller} works with DensityEstimation without labels, not with "
            f"{what}{type(pl_module).__name__}"
        )
    if (shape := data_spec(trainer, pl_module).shape) != (2,):
        raise ValueError(f"{caller} needs points in the plane; examples have shape {list(shape)}")


def data_spec(trainer: L.Trainer, pl_module: L.LightningModule) -> Any:
    """The spec of the data, even before the networks are built."""
    offered = getattr(trainer.datamodule, "spec", None)  # type: ignore[attr-defined]
    return pl_module.spec if offered is None else offered


def first_examples(trainer: L.Trainer, number: int) -> tuple[Tensor, Tensor] | None:
    """Up to ``number`` validation examples and labels; ``None`` if there are none."""
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


def require_images(caller: str, spec: Any) -> None:
    """Refuse data other than images of one or three channels.

    Raises:
        ValueError: names the caller and the data.
    """
    if not isinstance(spec, TensorSpec):
        raise ValueError(f"{caller} shows images, which a {type(spec).__name__} does not describe")
    try:
        channels = image_shape(spec)[0]
    except ValueError as error:
        raise ValueError(f"{caller}: {error}") from None
    if channels not in (1, 3):
        raise ValueError(f"{caller}: images of {channels} channels cannot be shown")
