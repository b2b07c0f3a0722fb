"""What is frozen stays as it is, its running statistics and its dropout, too."""

from functools import partial
from pathlib import Path

import pytest
import torch
from learning_cases import Points
from lightning.pytorch.demos.boring_classes import BoringModel

from trellis.lightning_modules.callbacks import ParameterGroups
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.vector import MLP

network = partial(MLP, hidden_channels=(4, 4), batch_norm=True, dropout=0.5)
sgd = partial(torch.optim.SGD, lr=0.1)


def fit(root: Path, groups: ParameterGroups, model=None):
    model = model or Classification(network, sgd)
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, max_epochs=2, callbacks=[groups],
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(model, datamodule=Points() if isinstance(model, Classification) else None)
    return model


def test_running_statistics_stay(tmp_path: Path) -> None:
    model = fit(tmp_path, ParameterGroups(["network.layers.1"]))
    norm = model.network.layers[1]
    assert isinstance(norm, torch.nn.BatchNorm1d)
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert not norm.weight.requires_grad
    assert int(norm.num_batches_tracked) == 0
    others = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm1d) and m is not norm]
    assert all(int(other.num_batches_tracked) > 0 for other in others)
    assert len(others) == 1


def test_the_longest_prefix_gives_the_rate(tmp_path: Path) -> None:
    rates = {"network": 1e-3, "network.layers.0": 1e-2}
    model = fit(tmp_path, ParameterGroups(learning_rates=rates))
    (optimizer,) = model.trainer.optimizers
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert found.keys() == dict(model.named_parameters()).keys()
    assert {n for n, rate in found.items() if rate == 1e-2} == {
        "network.layers.0.weight", "network.layers.0.bias"
    }  # fmt: skip
    assert {*found.values()} == {1e-2, 1e-3}


def test_a_part_has_a_weight_decay_of_its_own_and_the_rate_of_a_shorter_prefix(
    tmp_path: Path,
) -> None:
    decays = {"network.layers.0": 0.5, "network.layers": 0.0}
    model = fit(tmp_path, ParameterGroups([], {"network": 1e-3}, decays))
    (optimizer,) = model.trainer.optimizers
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (g["lr"], g["weight_decay"])
        for g in optimizer.param_groups for p in g["params"]
    }  # fmt: skip
    assert found.keys() == dict(model.named_parameters()).keys()
    for name, (rate, decay) in found.items():
        assert rate == 1e-3
        assert decay == (0.5 if name.startswith("network.layers.0.") else 0.0)


def test_a_weight_decay_needs_an_optimiser_that_has_one(tmp_path: Path) -> None:
    model = Classification(network, partial(torch.optim.LBFGS, lr=0.1))
    with pytest.raises(ValueError, match=r"LBFGS has no weight_decay.*network has one"):
        fit(tmp_path, ParameterGroups(weight_decays={"network": 0.1}), model)
    with pytest.raises(ValueError, match=r"weight_decays\[network\]=-0.1"):
        ParameterGroups(weight_decays={"network": -0.1})


def test_rates_need_the_optimiser_of_the_objective(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="BoringModel makes its own optimisers"):
        fit(tmp_path, ParameterGroups(learning_rates={"layer": 0.1}), BoringModel())
    with pytest.raises(ValueError, match=r"learning_rates\[network\]=0"):
        ParameterGroups(learning_rates={"network": 0.0})
