import pytest
import torch
from sklearn.linear_model import LinearRegression

from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.commands.ledger import ledger
from trellis.spec import TensorSpec


def ready(**options) -> Digits:
    data = Digits(**options)
    data.setup()
    return data


def test_splits_are_fixed_and_cover_all_digits() -> None:
    data, again = ready(), ready()
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 1297, "val": 200, "test": 300,
    }  # fmt: skip
    assert torch.cat(list(data.splits.values())).sort().values.equal(torch.arange(1797))
    assert all(torch.equal(data.splits[name], again.splits[name]) for name in data.splits)
    assert data.x.min() == 0
    assert data.x.max() == 1


@pytest.mark.parametrize("flatten", [True, False])
def test_real_targets_are_the_labels_as_numbers(flatten: bool) -> None:
    labelled, real = ready(flatten=flatten), ready(flatten=flatten, targets="real")
    size = () if flatten else (8, 8)
    classes = tuple("0123456789")
    channels = 64 if flatten else 1
    assert labelled.spec == TensorSpec(channels, 10, size, classes)
    assert real.spec == TensorSpec(channels, 1, size, targets="real")
    for split in ("train", "val", "test"):
        [(x, y), *_], [(same, target), *_] = (list(d.loader(split)) for d in (labelled, real))
        if split != "train":  # which is shuffled
            assert torch.equal(x, same)
            assert torch.equal(y.float(), target)
        assert x.shape[1:] == labelled.spec.shape
        assert target.dtype == torch.float32


def test_an_unknown_kind_of_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="targets='classes': choose from labels, real"):
        Digits(targets="classes")


def test_the_ledger_has_the_least_squares_solution_of_this_split() -> None:
    data = ready(targets="real")
    (x, y), (x_test, y_test) = (
        (data.x[data.splits[s]], data.y[data.splits[s]]) for s in ("train", "test")
    )
    model = LinearRegression().fit(x.double().numpy(), y.double().numpy())
    residuals = model.predict(x_test.double().numpy()) - y_test.numpy()
    rmse = (residuals**2).mean() ** 0.5
    assert ledger()["linear-digits"].published == pytest.approx(rmse, abs=1e-4)
