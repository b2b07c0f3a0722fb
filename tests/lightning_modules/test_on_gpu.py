"""Every objective on a GPU (``make test-gpu``): in four precisions, compiled, resumed, sharded."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from every_objective import OBJECTIVES, short_run
from learning_cases import Case, Kill, adam, assert_equal_weights, quiet_trainer, run
from token_cases import Streams

from trellis.lightning_modules.sequence import CausalLM
from trellis.networks.sequence import GPT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
on_gpu = partial(short_run, accelerator="cuda", devices=1)
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")
AGENTS = {"A2C", "PPO", "TRPO", "REINFORCE", "DQN", "DDPG", "TD3", "SAC"}
DRAWS_ON_THE_DEVICE = {"GAN", "Variational"}
# Sums over edges on a GPU take their terms in any order, unless told otherwise.
SUMS_OVER_EDGES = {
    "GraphClassification", "GraphRegression", "GraphTasks", "KnowledgeGraphCompletion",
    "LinkPrediction", "NodeClassification", "NodeRegression",
}  # fmt: skip
REFUSED = {(agent, "bf16-true") for agent in AGENTS}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_it_trains(name: str, precision: str, tmp_path: Path) -> None:
    done = on_gpu(name, tmp_path, precision=precision, enable_checkpointing=False)
    if (name, precision) in REFUSED:
        assert isinstance(done.error, ValueError)
        return
    assert done.error is None
    assert done.trainer.strategy.root_device.type == "cuda"
    assert done.trainer.global_step > 1
    floats = [w for w in done.weights.values() if w.is_floating_point()]
    assert floats
    assert all(w.isfinite().all() for w in floats)


@pytest.mark.parametrize("name", sorted(OBJECTIVES.keys() - DRAWS_ON_THE_DEVICE))
def test_a_checkpoint_of_the_cpu_measures_the_same(name: str, tmp_path: Path) -> None:
    trained = short_run(name, tmp_path)
    assert trained.error is None

    def measured(accelerator: str) -> dict[str, float]:
        L.seed_everything(0, verbose=False)
        trainer = quiet_trainer(tmp_path, accelerator=accelerator, devices=1)
        case = OBJECTIVES[name]
        model = case.objective()
        (found,) = trainer.validate(model, case.data(), trained.last, verbose=False)
        return found

    assert measured("cuda") == pytest.approx(measured("cpu"), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_it_compiles(name: str, tmp_path: Path) -> None:
    done = on_gpu(name, tmp_path, compile=True, enable_checkpointing=False)
    if done.error is not None:
        raise done.error
    assert all(w.isfinite().all() for w in done.weights.values() if w.is_floating_point())


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_it_goes_on_where_it_was_stopped(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = {"deterministic": True} if name in SUMS_OVER_EDGES else {}
    whole = on_gpu(name, tmp_path / "whole", **options)
    begun = on_gpu(name, tmp_path / "begun", callbacks=[Kill(1)], **options)
    resumed = on_gpu(name, tmp_path / "resumed", ckpt_path=begun.last, **options)
    torch.use_deterministic_algorithms(False)
    if resumed.error is not None:
        raise resumed.error
    assert_equal_weights(whole, resumed)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_shards_on_one_gpu_go_on_as_the_whole_does(precision: str, tmp_path: Path) -> None:
    network = partial(GPT, context=16, embed_dim=8, num_heads=2, num_layers=2, dropout=0.0)
    case = Case(partial(CausalLM, network, adam), partial(Streams, steps=5))
    options = {"accelerator": "cuda", "devices": 1, "precision": precision}
    begun = run(case, tmp_path / "begun", max_epochs=1, **options)
    options |= {"max_epochs": 3, "ckpt_path": begun.last}
    whole = run(case, tmp_path / "whole", **options)
    sharded = run(case, tmp_path / "sharded", strategy="sharded", **options)
    assert whole.error is None
    assert sharded.error is None
    a, b = whole.recorder.metrics[-1], sharded.recorder.metrics[-1]
    assert b == pytest.approx(a, rel=1e-4 if precision == "32-true" else 2e-2)
