"""``trellis generate`` for models of images and points: samples as a picture or a tensor."""

from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

PICTURES, NUMBERS = (".png", ".jpg", ".pdf", ".svg"), (".pt", ".npy")


class Given(NamedTuple):
    """What the samples of a conditional model are drawn for.

    Args:
        label: a class, by name or by number; ``None`` takes all, equally often.
        context: real targets, of a model that is conditional on those.
    """

    label: str | None = None
    context: list[float] | None = None


def check_output(output: str | None) -> Path:
    """Path of the samples: the given one, else ``samples.png``, or ``samples_2.png`` and so on.

    Raises:
        ValueError: the file exists, its folder does not, or its suffix is unknown.
    """
    if output is None:
        names = ("samples.png" if n == 1 else f"samples_{n}.png" for n in count(1))
        return next(path for path in map(Path, names) if not path.exists())
    path = Path(output)
    if path.suffix not in PICTURES + NUMBERS:
        known = ", ".join(PICTURES + NUMBERS)
        raise ValueError(f"--output {output}: unknown suffix, give one of {known}")
    if path.exists():
        raise ValueError(f"--output {output} already exists: give another name, or move it")
    if not path.parent.is_dir():
        raise ValueError(f"--output {output}: there is no folder {path.parent}, create it first")
    return path


def write_samples(model: Any, path: Path, number: int, given: Given, seed: int) -> None:
    """Draw samples and write them to a file.

    Args:
        model: an objective with ``sample``.
        path: from ``check_output``.
        number: of samples.
        given: what to draw for.
        seed: of the random numbers.
    Raises:
        ValueError: something given that does not fit the model, a number below 1, or examples
            that cannot be shown as a picture.
    """
    import torch

    from trellis.checks import at_least_one
    from trellis.lightning_modules.commands.text_models import say
    from trellis.lightning_modules.generative.sampling import draw_samples

    labels = _labels(model, at_least_one("num", number), given)
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
        all_classes = labels is not None and given == Given()
        columns = model.spec.out_channels if all_classes else None
        _picture(x, model.spec, None if given.context else labels, columns).savefig(path)
    print(path)


def check_picture(spec: Any) -> None:
    """Refuse examples that cannot be shown as a picture.

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
        raise ValueError(f"{error}; for a tensor, give --output samples.pt or .npy") from None


def _picture(x: Any, spec: Any, labels: Any, columns: int | None) -> Any:
    from trellis.analysis.images import image_picture
    from trellis.analysis.points import scatter_picture

    if spec.shape == (2,):
        return scatter_picture(x, labels)
    return image_picture(x, spec, columns=columns)


def _labels(model: Any, number: int, given: Given) -> Any:
    import torch

    from trellis.labels import balanced_labels
    from trellis.lightning_modules.generative.generative_objective import given_real_targets

    label, conditional = given.label, getattr(model, "conditional", False)
    real = given_real_targets(model)
    if label is not None and (real or not conditional):
        trained = "on real targets: give --context" if real else "with conditional=False"
        raise ValueError(
            f"--label {label}: this {type(model).__name__} was trained {trained}, leave the label "
            f"out"
        )
    if real:
        return _repeated(model, number, given.context)
    if given.context is not None:
        raise ValueError(
            f"--context: this {type(model).__name__} is not conditional on real targets, leave it "
            f"out"
        )
    if not conditional:
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


def _repeated(model: Any, number: int, context: list[float] | None) -> Any:
    """The same real targets for each sample."""
    import torch

    count = model.spec.out_channels
    if context is None or len(context) != count:
        got = "is missing" if context is None else f"has {len(context)} numbers"
        raise ValueError(
            f"--context {got}: this {type(model).__name__} is conditional on real targets, give "
            f"{count} numbers"
        )
    return torch.tensor([context] * number)
