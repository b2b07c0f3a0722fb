"""``trellis generate`` for models of images and points: samples as a picture or as numbers."""

from itertools import count
from pathlib import Path
from typing import Any

PICTURES, NUMBERS = (".png", ".jpg", ".pdf", ".svg"), (".pt", ".npy")


def check_output(output: str | None) -> Path:
    """Where the samples go: the path that was asked for, else ``samples.png`` or the next free
    name like it in the working directory.

    Raises:
        ValueError: a file of that name is there, its folder is not, or its ending is unknown.
    """
    if output is None:
        names = ("samples.png" if n == 1 else f"samples_{n}.png" for n in count(1))
        return next(path for path in map(Path, names) if not path.exists())
    path = Path(output)
    if path.suffix not in PICTURES + NUMBERS:
        known = ", ".join(PICTURES + NUMBERS)
        raise ValueError(f"--output {output}: the ending says what to write, one of {known}")
    if path.exists():
        raise ValueError(f"--output {output} is there already: name another file, or move it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {path.parent}")
    return path


def write_samples(model: Any, path: Path, number: int, label: str | None, seed: int) -> None:
    """Draw samples and write them; a conditional model draws its classes in turn.

    Args:
        model: an objective that draws, ready for use.
        path: from ``check_output``.
        number: of samples.
        label: the one class to draw, by name or by number; ``None`` draws all of them.
        seed: of the draws.
    Raises:
        ValueError: a label for a model without classes, an unknown one, no samples, or examples
            that no picture shows.
    """
    import torch

    from trellis.checks import at_least_one
    from trellis.lightning_modules.commands.text_models import say
    from trellis.lightning_modules.generative.sampling import draw_samples

    labels = _labels(model, at_least_one("num", number), label)
    if path.suffix in PICTURES:
        check_picture(model.spec)
    x = draw_samples(model, number, seed=seed, labels=labels).cpu()
    if lost := int((~x.isfinite()).flatten(1).any(1).sum()):
        say("generate", f"{lost} of {number} samples are not finite")
    if path.suffix == ".pt":
        torch.save(x, path)
    elif path.suffix == ".npy":
        import numpy as np

        np.save(path, x.numpy())
    else:
        in_turn = labels is not None and label is None
        columns = model.spec.out_channels if in_turn else None
        _picture(x, model.spec, labels, columns).savefig(path)
    print(path)


def check_picture(spec: Any) -> None:
    """Refuse examples that no picture shows.

    Raises:
        ValueError: they are neither images nor points in the plane, or matplotlib is missing.
    """
    from trellis.analysis.images import image_shape
    from trellis.analysis.pictures import empty_figure

    empty_figure(1, 1)  # matplotlib is an extra
    if spec.shape == (2,):
        return
    try:
        image_shape(spec)
    except ValueError as error:
        raise ValueError(f"{error}; numbers go to --output samples.pt or samples.npy") from None


def _picture(x: Any, spec: Any, labels: Any, columns: int | None) -> Any:
    from trellis.analysis.images import image_picture
    from trellis.analysis.points import scatter_picture

    if spec.shape == (2,):
        return scatter_picture(x, labels)
    return image_picture(x, spec, columns=columns)


def _labels(model: Any, number: int, label: str | None) -> Any:
    import torch

    from trellis.labels import balanced_labels

    if not getattr(model, "conditional", False):
        if label is not None:
            raise ValueError(
                f"--label {label}: this {type(model).__name__} was trained without conditional, "
                f"it draws what it likes"
            )
        return None
    classes = model.spec.out_channels
    if label is None:
        return balanced_labels(number, classes)
    names = list(model.spec.classes)
    if label in names:
        return torch.full((number,), names.index(label))
    if label.isdecimal() and int(label) < classes:
        return torch.full((number,), int(label))
    known = ", ".join(names) or f"0 to {classes - 1}"
    raise ValueError(f"--label {label}: choose from {known}")
