"""A small classifier of a data module's images, trained once and kept: an eye to judge samples."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from trellis.analysis import images
from trellis.checks import at_least_one
from trellis.files import data_root
from trellis.lightning_modules.engine.checkpoint_file import AtomicCheckpointIO
from trellis.networks.image import cnn
from trellis.random import isolated_rng
from trellis.spec import TensorSpec

BATCH_SIZE = 128
LEARNING_RATE = 3e-3  # where the one cycle peaks


@dataclass(frozen=True)
class ImageClassifier:
    """A trained ``SmallCNN`` and what is known of it.

    Args:
        network: in evaluation mode.
        spec: of the images.
        accuracy: share of the validation images that it takes for what they are.
        shares: of the classes among the training images, ``[C]``.
    """

    network: cnn.SmallCNN
    spec: TensorSpec
    accuracy: float
    shares: Tensor

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the last hidden layer sees, and the class.

        Args:
            x: images in the units of the data, on the device of the network.
        Shape:
            ``[N, *spec.shape]`` -> ``[N, 128]`` and ``[N]``, on the CPU
        """
        parts = []
        for part in x.split(500):
            hidden = self.network.features(_visible(part, self.spec))
            hidden = self.network.classifier[:-1](hidden)
            parts.append((hidden.cpu(), self.network.classifier[-1](hidden).argmax(-1).cpu()))
        features, labels = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(labels)


def check_classifiable(asker: str, datamodule: Any) -> None:
    """Refuse data that no ``image_classifier`` can be trained on.

    Args:
        asker: who asks.
        datamodule: set up.
    Raises:
        ValueError: it has no images or no labels; names what is needed.
    """
    spec, name = getattr(datamodule, "spec", None), type(datamodule).__name__
    if not isinstance(spec, TensorSpec) or not callable(getattr(datamodule, "loader", None)):
        raise ValueError(f"{asker} needs a trellis data module of images; {name} is none")
    try:
        shape = images.image_shape(spec)
    except ValueError as error:
        raise ValueError(f"{asker}, {name}: {error}") from None
    if spec.targets != "labels":
        raise ValueError(f"{asker} needs class labels; {name} has real-valued targets")
    if min(shape[1:]) < 4 or spec.out_channels < 2:
        raise ValueError(
            f"{asker} needs images of at least 4x4 pixels in at least 2 classes; {name} has "
            f"{shape[1]}x{shape[2]} in {spec.out_channels}"
        )


def image_classifier(datamodule: Any, folder: Path, steps: int = 450) -> ImageClassifier:
    """The classifier of a data module's images: read if it lies in ``folder``, else trained.

    Trained on the CPU and by a seed of its own, so that it is the same whatever the run; 450 steps
    of 128 images of 28x28 take about a minute on one core. Its file is named after all that it
    depends on: the images and labels of both splits, the spec, the steps and the code.

    Args:
        datamodule: set up; its training split is learnt, its validation split judges the result.
        folder: of the files; one that cannot be written to costs the training each time.
        steps: of training.
    Raises:
        ValueError: see ``check_classifiable``.
    """
    check_classifiable("image_classifier", datamodule)
    at_least_one("steps", steps)
    path = folder / f"smallcnn-{_key(datamodule, steps)}.ckpt"
    with isolated_rng(seed=0):
        found = _read(path, datamodule.spec)
    if found is not None:
        return found
    name = type(datamodule).__name__
    rank_zero_info(f"training a small classifier of {name}'s images, once: {steps} steps")
    # Whoever asks may do so in an evaluation, where gradients are off.
    with torch.inference_mode(False), torch.enable_grad(), isolated_rng(seed=0):
        network = _train(datamodule, steps)
    accuracy = _accuracy(network, datamodule)
    labels = torch.cat([y for _, y in _chunks(datamodule.loader("train"))])
    shares = torch.bincount(labels, minlength=datamodule.spec.out_channels) / len(labels)
    classifier = ImageClassifier(network, datamodule.spec, accuracy, shares)
    content = {"state_dict": network.state_dict(), "accuracy": accuracy, "shares": shares}
    try:
        AtomicCheckpointIO().save_checkpoint(content, path)
    except OSError as error:
        rank_zero_warn(f"the classifier of {name} cannot be kept, and is trained again: {error}")
    return classifier


def cache_folder(datamodule: Any) -> Path:
    """Where the classifiers of a data module lie: beside its raw files."""
    own = getattr(datamodule, "hparams", {}).get("data_dir")
    return data_root(own) / "classifiers"


def split_images(datamodule: Any, split: str, number: int) -> Tensor:
    """Up to ``number`` images of a split, drawn by a fixed generator."""
    loader = datamodule.loader(split)
    order = torch.randperm(loader.num_examples, generator=torch.Generator().manual_seed(0))
    return torch.cat([loader.fetch(part)[0] for part in order[:number].split(1000)])


def _visible(x: Tensor, spec: TensorSpec) -> Tensor:
    if spec.values == "real":  # on a scale that only the data knows
        return x.reshape(-1, *images.image_shape(spec)).float()
    return images.to_pixels(x, spec)


def _new_network(spec: TensorSpec) -> cnn.SmallCNN:
    return cnn.SmallCNN(images.image_shape(spec)[0], spec.out_channels)


def _train(datamodule: Any, steps: int) -> cnn.SmallCNN:
    loader, spec = datamodule.loader("train"), datamodule.spec
    network = _new_network(spec).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for indices in islice(_batches(loader.num_examples), steps):
        x, y = loader.fetch(indices)
        optimizer.zero_grad()
        F.cross_entropy(network(_visible(x, spec)), y).backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _batches(num_examples: int) -> Iterator[Tensor]:
    """Indices of whole batches, epoch after epoch; of the one batch where there is no more."""
    generator = torch.Generator().manual_seed(0)
    size = min(BATCH_SIZE, num_examples)
    while True:
        yield from torch.randperm(num_examples, generator=generator).unfold(0, size, size)


def _accuracy(network: cnn.SmallCNN, datamodule: Any) -> float:
    classifier = ImageClassifier(network, datamodule.spec, 0.0, torch.empty(0))
    right = [classifier(x)[1] == y for x, y in _chunks(datamodule.loader("val"))]
    return torch.cat(right).double().mean().item()


def _chunks(loader: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """A split in the order of its data, whatever the process, the seed or the batch size."""
    for indices in torch.arange(loader.num_examples).split(1000):
        yield loader.fetch(indices)


def _key(datamodule: Any, steps: int) -> str:
    digest = hashlib.blake2b(f"{datamodule.spec} {steps}".encode(), digest_size=12)
    for module in (__file__, cnn.__file__, images.__file__):
        digest.update(Path(module).read_bytes())
    for split in ("train", "val"):
        for part in _chunks(datamodule.loader(split)):
            for tensor in part:
                digest.update(f"{split} {tensor.dtype} {list(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, spec: TensorSpec) -> ImageClassifier | None:
    if not path.is_file():
        return None
    try:
        content = AtomicCheckpointIO().load_checkpoint(path, "cpu", weights_only=True)
        network = _new_network(spec)
        network.load_state_dict(content["state_dict"])
        shares = torch.as_tensor(content["shares"])
        return ImageClassifier(network.eval(), spec, float(content["accuracy"]), shares)
    except Exception as error:  # whatever a damaged or forged file provokes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        rank_zero_warn(f"{path} cannot be used, a classifier is trained in its place: {reason}")
        return None
