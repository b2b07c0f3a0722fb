"""Compiled runs: the numbers, the keys and the checkpoints of eager ones."""

from functools import partial
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from every_objective import OBJECTIVES, short_run
from learning_cases import Case, quiet_trainer, run

from trellis.lightning_modules.engine import compiling
from trellis.lightning_modules.engine.compiling import CompileInPlace, compile_options, networks
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.rl.a2c import A2C

SHORT = ("DQN",)
NAMES = [pytest.param(n, marks=[] if n in SHORT else pytest.mark.long) for n in OBJECTIVES]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


class Counted(L.Callback):
    """Which networks have been compiled, once training begins."""

    def on_train_start(self, trainer, pl_module) -> None:
        self.graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]

    def on_train_end(self, trainer, pl_module) -> None:
        self.graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"] - self.graphs


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_run_is_the_eager_one(name, tmp_path) -> None:
    counted = Counted()
    compiled = short_run(name, tmp_path / "a", compile="aot_eager", callbacks=[counted])
    eager = short_run(name, tmp_path / "b")
    assert compiled.error is None
    # Scheduled sampling calls encode and decode for each token, which are not compiled.
    assert counted.graphs > 0 or name == "SequenceToSequence"
    assert list(compiled.weights) == list(eager.weights)
    for key, right in eager.weights.items():
        torch.testing.assert_close(compiled.weights[key], right, rtol=2e-3, atol=1e-4)


@pytest.mark.long
def test_checkpoints_of_compiled_and_eager_runs_interchange(tmp_path) -> None:
    case = OBJECTIVES["Classification"]
    whole = run(case, tmp_path / "whole", max_epochs=2)
    for first, second in ((False, "aot_eager"), ("aot_eager", False)):
        begun = run(case, tmp_path / f"{first}", max_epochs=1, compile=first)
        resumed = run(case, tmp_path / "on", max_epochs=2, compile=second, ckpt_path=begun.last)
        assert resumed.error is None
        for key, right in whole.weights.items():
            torch.testing.assert_close(resumed.weights[key], right)


class Hot(L.LightningModule):
    """A network, and a method beside it that is to be compiled, too."""

    compiled = ("halved",)

    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Linear(2, 2)

    def halved(self, x):
        return self.network(x) / 2 if torch.compiler.is_compiling() else None


def test_the_methods_that_a_module_names_are_compiled() -> None:
    module, x = Hot(), torch.ones(1, 2)
    keys = list(module.state_dict())
    assert module.halved(x) is None
    CompileInPlace("eager").on_fit_start(None, module)
    torch.testing.assert_close(module.halved(x), module.network(x) / 2)
    assert list(module.state_dict()) == keys


class Differentiated(Hot):
    compiled, differentiated = (), ("losses",)

    def losses(self, x):
        error = self.network(x) - 1
        return {"loss": error.square().sum(), "error": error}


def alone_or_not(world_size: int = 1, scaler: object = None) -> SimpleNamespace:
    return SimpleNamespace(world_size=world_size, precision_plugin=SimpleNamespace(scaler=scaler))


def test_a_loss_is_one_graph_with_its_gradients() -> None:
    module, x = Differentiated(), torch.randn(3, 2)
    parameters = list(module.parameters())
    values = module.losses(x)
    expected = torch.autograd.grad(values["loss"], parameters)
    CompileInPlace("eager").on_fit_start(alone_or_not(), module)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    found = module.losses.backward(parameters, x)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1
    torch.testing.assert_close([each.grad for each in parameters], list(expected))
    torch.testing.assert_close(found, {name: v.detach() for name, v in values.items()})
    assert not any(value.requires_grad for value in found.values())


@pytest.mark.parametrize("options", [{"world_size": 2}, {"scaler": object()}])
def test_gradients_that_others_reduce_or_scale_come_from_a_backward_pass(options) -> None:
    module = Differentiated()
    CompileInPlace("eager").on_fit_start(alone_or_not(**options), module)
    module.losses(torch.ones(1, 2))["loss"].backward()
    assert module.network.weight.grad is not None


@pytest.mark.long
def test_agents_with_other_coefficients_are_compiled_after_each_other(tmp_path) -> None:
    data = OBJECTIVES["A2C"].data
    for number, coefficient in enumerate((0.01, 0.0, 0.02)):
        case = Case(partial(A2C, entropy_coef=coefficient), data)
        fitted = run(case, tmp_path / str(number), max_steps=2, compile="aot_eager")
        assert fitted.error is None


def test_without_a_compiler_a_line_says_so_and_the_run_goes_on(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    said: list[str] = []
    monkeypatch.setattr(compiling, "rank_zero_info", said.append)
    fitted = short_run("Classification", tmp_path, compile=True)
    assert fitted.error is None
    assert said == [
        "compile: there is no C++ compiler (no-such-compiler); the run is not compiled"
    ]


def test_what_is_neither_mode_nor_backend_is_refused(tmp_path) -> None:
    assert compile_options(True) == compile_options("default") == {"mode": "default"}
    assert compile_options("aot_eager") == {"backend": "aot_eager"}
    with pytest.raises(ValueError, match=r"compile='max-autotun': .*did you mean max-autotune"):
        Trainer(compile="max-autotun", default_root_dir=tmp_path)


def test_networks_of_lists_are_found_and_metrics_are_none(tmp_path) -> None:
    objective = short_run("SAC", tmp_path).objective
    assert list(networks(objective)) == [
        objective.policy, *objective.critics, *objective.target_critics,
    ]  # fmt: skip


def test_nothing_is_compiled_unless_asked_for(tmp_path) -> None:
    for compile in (False, True):
        trainer = quiet_trainer(tmp_path, compile=compile)
        assert any(isinstance(c, CompileInPlace) for c in trainer.callbacks) == compile
