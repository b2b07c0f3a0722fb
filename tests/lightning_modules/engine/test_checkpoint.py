"""Checkpoint files: whole or absent, verified, executing nothing, rebuilt without a class."""

import errno
import io
import os
import random
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from learning_cases import CASES, Lines, Points, adam, mlp, quiet_trainer, run, scheduler
from torch import nn

import trellis
from trellis import files as module
from trellis.lightning_modules.engine.checkpoint import read
from trellis.lightning_modules.engine.checkpoint_file import AtomicCheckpointIO, verify
from trellis.lightning_modules.engine.upgrade import description
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.rl.ddpg import DDPG
from trellis.lightning_modules.rl.sac import SAC
from trellis.lightning_modules.rl.td3 import TD3
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.generative.flow_autoregressive import NSF
from trellis.networks.graph.gnn import GatedGraphNet
from trellis.networks.rl.policy import DeterministicPolicy, SquashedGaussianPolicy
from trellis.networks.rl.value import StateActionValue
from trellis.networks.vector.mlp import MLP
from trellis.spec import EnvironmentSpec, NodeSpec, TensorSpec


def fitted(objective, root: Path) -> tuple[Classification, Path]:
    trainer = quiet_trainer(root, max_epochs=1)
    trainer.fit(objective, datamodule=Points())
    return objective, Path(trainer.checkpoint_callback.last_model_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return fitted(Classification(mlp, adam), tmp_path_factory.mktemp("saved"))[1]


@pytest.fixture
def forged(saved, tmp_path):
    """A function that writes the checkpoint with some entries changed."""

    def forge(**changes) -> Path:
        content = torch.load(saved, weights_only=True)
        for keys, value in changes.items():
            *path, last = keys.split("__")
            entry = content
            for key in path:
                entry = entry[key]
            entry[last] = value
        torch.save(content, tmp_path / "forged.ckpt")
        return tmp_path / "forged.ckpt"

    return forge


def small_network(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Linear(in_channels, out_channels)


def assert_same(a, b) -> None:
    assert type(a) is type(b)
    assert a.spec == b.spec
    x = torch.randn(5, 6)
    assert torch.equal(a.eval()(x), b.eval()(x))


def test_a_function_is_given_again_on_loading(tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIS_TRUST", __name__.partition(".")[0])
    objective, path = fitted(Classification(small_network, adam), tmp_path)
    with pytest.raises(ValueError, match="only classes are built.*load it with network="):
        trellis.load(path)
    assert_same(objective, trellis.load(path, network=small_network))


@pytest.mark.parametrize("network", [MLP, mlp], ids=["class", "partial"])
def test_load_without_naming_a_class(network, tmp_path):
    objective, path = fitted(Classification(network, adam, scheduler), tmp_path)
    loaded = trellis.load(path)
    assert not loaded.training
    assert_same(objective, loaded)
    assert loaded.optimizer([nn.Parameter(torch.ones(1))]).defaults["lr"] == 0.02
    assert_same(objective, Classification.load_from_checkpoint(path, weights_only=True))


@pytest.mark.parametrize("name", ["regression", "graph"])
def test_load_every_objective(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TRELLIS_TRUST", "learning_cases")
    trained = run(CASES[name], tmp_path, max_epochs=1)
    loaded = trellis.load(trained.last)
    assert loaded.spec == trained.objective.spec
    batch = next(iter(CASES[name].data().loader("test")))
    ours, theirs = (o.predict_step(batch, 0) for o in (loaded, trained.objective.eval()))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_second_generation(tmp_path):
    first, path = fitted(Classification(mlp, adam, label_smoothing=0.1), tmp_path / "1")
    second, path = fitted(trellis.load(path), tmp_path / "2")
    third = trellis.load(path)
    assert_same(second, third)
    assert third.label_smoothing == 0.1
    assert not torch.equal(next(first.parameters()), next(third.parameters()))
    # Defaults are written out in the second generation; from then on nothing changes.
    assert dict(second.hparams) == dict(third.hparams)
    assert first.hparams["network"]["class_path"] == third.hparams["network"]["class_path"]


def test_best_is_tested_and_a_loaded_objective_is_tested(tmp_path):
    trained = run(CASES["classification"], tmp_path)
    tested = trained.trainer.test(datamodule=Points(), ckpt_path="best", verbose=False)
    loaded = trellis.load(trained.best)
    again = quiet_trainer(tmp_path).test(loaded, datamodule=Points(), verbose=False)
    assert tested == again


def test_lambda_is_named_when_saved_and_when_loaded(tmp_path):
    make = lambda in_channels, out_channels: nn.Linear(in_channels, out_channels)  # noqa: E731
    with pytest.warns(UserWarning, match="give network= again on loading"):
        objective = Classification(make, adam)
    objective, path = fitted(objective, tmp_path)
    with pytest.raises(ValueError, match="saved without network.*load it with network="):
        trellis.load(path)
    with pytest.raises(ValueError, match="load it with network="):
        Classification.load_from_checkpoint(path, weights_only=True)
    with pytest.warns(UserWarning, match="give network="):
        assert_same(objective, trellis.load(path, network=make))


def test_objective_of_a_notebook_trains_saves_and_says_how_to_load(tmp_path):
    class Mine(Classification):
        pass

    objective, path = fitted(Mine(mlp), tmp_path)
    with pytest.raises(ValueError, match="YourClass.load_from_checkpoint"):
        trellis.load(path)
    assert_same(objective, Mine.load_from_checkpoint(path, weights_only=True))


def test_overrides(saved):
    with pytest.raises(ValueError, match="takes no networ; it takes network"):
        trellis.load(saved, networ=MLP)
    with pytest.raises(ValueError, match="weights do not fit the network: Missing key"):
        trellis.load(saved, network=partial(MLP, hidden_channels=(8, 8)))
    assert trellis.load(saved, label_smoothing=0.5).label_smoothing == 0.5


def test_resuming_as_something_else(saved, tmp_path):
    def resume(objective, data=None):
        data = data or Points()
        quiet_trainer(tmp_path).fit(objective, datamodule=data, ckpt_path=saved)

    with pytest.raises(
        ValueError, match="optimizer: .* made with Adam, this run has SGD.*init_from"
    ):
        resume(Classification(mlp, partial(torch.optim.SGD, lr=0.1)))
    with pytest.raises(ValueError, match="holds a .*Classification, not a .*Regression"):
        resume(Regression(mlp, adam), Lines())
    with pytest.warns(UserWarning, match="keeps lr=0.02 of the checkpoint instead of 0.5"):
        resume(Classification(mlp, partial(torch.optim.Adam, lr=0.5)))


def test_missing_empty_short_and_foreign_files(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        trellis.load(tmp_path / "none.ckpt")
    content = saved.read_bytes()
    for number, damaged in enumerate((b"", content[:100], content[:-1], b"hello")):
        path = tmp_path / f"{number}.ckpt"
        path.write_bytes(damaged)
        with pytest.raises(OSError, match="is not a whole checkpoint|is damaged"):
            trellis.load(path)
        with pytest.raises(OSError, match="is not a whole checkpoint|is damaged"):
            AtomicCheckpointIO().load_checkpoint(path)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="was not written by trellis"):
        trellis.load(tmp_path / "foreign.ckpt")
    torch.save(torch.ones(1), tmp_path / "tensor.ckpt")
    with pytest.raises(ValueError, match="was not written by trellis"):
        trellis.load(tmp_path / "tensor.ckpt")


def test_a_flipped_bit_never_changes_what_is_read(saved, tmp_path):
    content, path = saved.read_bytes(), tmp_path / "flipped.ckpt"
    expected = torch.load(saved, weights_only=True)["state_dict"]
    refused, generator = 0, random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            state = read(path, rebuilt=())["state_dict"]
        except (OSError, ValueError):
            refused += 1
            continue
        # Names and padding that nothing reads may differ.
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert refused > 75


class Payload:
    """Pickles as a call of ``os.system``."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickled_call_does_not_run(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = torch.load(saved, weights_only=True)
    torch.save({**content, "more": Payload()}, "malicious.ckpt")
    with pytest.raises(ValueError, match="holds more than plain data"):
        trellis.load("malicious.ckpt")
    with pytest.raises(Exception, match="system"):
        quiet_trainer(tmp_path).fit(
            Classification(), datamodule=Points(), ckpt_path="malicious.ckpt"
        )
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("network", {"class_path": "untrusted_thing.Net"}, "untrusted_thing.Net.*not trusted"),
        ("network", "untrusted_thing.net", "names 'untrusted_thing.net', and only classes"),
        ("network", {"class_path": "trellis.networks.vector.mlp.MLP",
                     "init_args": {"activation": "untrusted_thing.f"}}, "choose from relu"),
        ("network", {"class_path": "subprocess.Popen"}, "subprocess.Popen.*not trusted"),
        ("network", "os.system", "names 'os.system', and only classes"),
        ("network", {"class_path": "torch.nn.modules.module.warnings.warn"}, "is refused"),
        ("network", {"class_path": "torch.nn.modules.module.OrderedDict"}, "not among the clas"),
        ("network", {"class_path": "torch.nn.init"}, "is refused"),
        ("network", {"class_path": "torch.nn.Missing"}, "not among the classes"),
        ("network", {"class_path": "torch.nn.modules.linear.Linear"}, "cannot be rebuilt|takes"),
        ("optimizer", {"class_path": "torch.nn.modules.activation.ReLU"}, "takes no ReLU"),
        ("_class_path", "untrusted_thing.Objective", "not trusted"),
        ("_class_path", "trellis.networks.vector.mlp.MLP", "MLP is not a trellis objective"),
        ("_class_path", "trellis.lightning_modules.engine.objective.Stage", "is refused"),
        ("_instantiator", "os.system", "to be rebuilt by .os.system"),
        ("spec", {"in_channels": "six", "out_channels": 3}, "cannot be rebuilt"),
    ],
)  # fmt: skip
def test_untrusted_names_are_refused(where, value, message, forged, tmp_path, monkeypatch):
    (tmp_path / "untrusted_thing.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = forged(**{f"hyper_parameters__{where}": value})
    with pytest.raises(ValueError, match=message):
        trellis.load(path)
    assert "untrusted_thing" not in sys.modules


def test_a_file_name_is_no_module(forged):
    # Python has a package called test, and a table of nodes may be called test.csv.
    graph = "trellis.datamodules.graph.graph_from_files.GraphFromFiles"
    pairs = "trellis.datamodules.sequence.parallel_text.ParallelText"
    for data in (
        {"_class_path": graph, "nodes": "test.csv"},
        {"_class_path": pairs, "train": ["test.de", "test.en"]},
    ):
        path = forged(datamodule_hyper_parameters=data)
        with pytest.warns(UserWarning, match="written by another account"):
            found = read(path)["datamodule_hyper_parameters"]
        assert found == {"_class_path": data["_class_path"]}, "a stranger's file would be read"
    for data in (
        {"_class_path": pairs, "tokenizer": "os.system"},
        {"_class_path": "os.system", "nodes": "test.csv"},
    ):
        with pytest.raises(ValueError, match=r"names .?os\.system"):
            read(forged(datamodule_hyper_parameters=data))


def test_other_formats(forged):
    with pytest.raises(ValueError, match="has format 99.*upgrade"):
        trellis.load(forged(trellis__format=99))
    with pytest.raises(ValueError, match="was not written by trellis"):
        trellis.load(forged(trellis="1"))


def test_data_of_others_matter_only_to_those_who_rebuild_them(saved):
    trellis.load(saved)
    with pytest.raises(ValueError, match="names learning_cases.Points.*TRELLIS_TRUST"):
        read(saved)


def test_reading_without_weights(saved):
    weights = read(saved, weights=False, rebuilt=())["state_dict"].values()
    assert {weight.device.type for weight in weights} == {"meta"}


class SmallDisk(io.FileIO):
    """A file on a disk that has room for 2,000 bytes."""

    def write(self, data) -> int:
        if self.tell() + len(data) > 2000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_leaves_the_previous_checkpoint(saved, tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    path.write_bytes(saved.read_bytes())
    monkeypatch.setattr(module.os, "fdopen", lambda handle, mode: SmallDisk(handle, mode))
    with pytest.raises(
        OSError, match="no space left for .*last.ckpt.*previous checkpoint"
    ) as info:
        AtomicCheckpointIO().save_checkpoint({"x": torch.ones(10_000)}, path)
    assert info.value.errno == errno.ENOSPC
    assert path.read_bytes() == saved.read_bytes()
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_who_reads_a_checkpoint_while_it_is_replaced_reads_the_old_one(tmp_path):
    path, writer = tmp_path / "last.ckpt", AtomicCheckpointIO()
    writer.save_checkpoint({"x": torch.zeros(3)}, path)
    old = path.read_bytes()
    with path.open("rb") as file:
        writer.save_checkpoint({"x": torch.ones(3)}, path)
        assert file.read() == old
    assert torch.equal(writer.load_checkpoint(path)["x"], torch.ones(3))
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_a_full_disk_ends_a_run_with_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "fdopen", lambda handle, mode: SmallDisk(handle, mode))
    ended = run(CASES["classification"], tmp_path)
    assert isinstance(ended.error, OSError)
    assert "no space left" in str(ended.error)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


WIDE = 60_000  # two such layers would take 14 GB
LEVER = EnvironmentSpec("Lever", (3,), action_low=(-1.0,), action_high=(1.0,))
CLAIMS = {
    "ddpg": (DDPG, {"policy": DeterministicPolicy}, LEVER, (WIDE, WIDE)),
    "td3": (TD3, {"critic": StateActionValue}, LEVER, (WIDE, WIDE)),
    "sac": (SAC, {"policy": SquashedGaussianPolicy}, LEVER, (WIDE, WIDE)),
    "nsf": (DensityEstimation, {"network": NSF}, TensorSpec(4, 2), (WIDE, WIDE)),
    "gated": (NodeClassification, {"network": GatedGraphNet}, NodeSpec(4, 2), WIDE),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_widths_that_the_file_does_not_hold_are_refused_before_memory_is_asked_for(name, tmp_path):
    cls, networks, spec, widths = CLAIMS[name]
    objective = cls(**networks, spec=spec)
    objective.configure_model()
    hparams = dict(objective.hparams)
    for network in networks:
        hparams[network]["init_args"] = {"hidden_channels": widths}
    about = {"trellis": description(objective, None), "state_dict": objective.state_dict()}
    torch.save({**about, "hyper_parameters": hparams}, tmp_path / "wide.ckpt")
    with pytest.raises(ValueError, match=r"it claims [\d,]{13,} numbers, the file holds"):
        trellis.load(tmp_path / "wide.ckpt")


def test_files_have_the_usual_permissions(saved):
    mask = os.umask(0)
    os.umask(mask)
    assert saved.stat().st_mode & 0o777 == 0o666 & ~mask


def test_verify_accepts_what_was_written(saved):
    verify(saved)
    assert set(read(saved, rebuilt=())["trellis"]) == {
        "format",
        "objective",
        "spec",
        "data",
        "files",
        "unsaved",
    }
