"""What every objective shares: building once, fitting sizes and networks, clear refusals."""

import json
from dataclasses import replace
from functools import partial

import lightning as L
import pytest
import torch
from learning_cases import (
    CASES,
    Lines,
    ManyGraphs,
    Points,
    PooledGCN,
    SmallGraph,
    adam,
    mlp,
    quiet_trainer,
    run,
)
from torch import nn

import trellis
from trellis.datamodules.sequence.date_formats import DateFormats
from trellis.lightning_modules.engine.finite_guard import FiniteGuard
from trellis.lightning_modules.engine.objective import plan
from trellis.lightning_modules.engine.own_steps import clip_gradients
from trellis.lightning_modules.engine.resume import ExactResume
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.graph.gnn import GCN
from trellis.networks.vector.mlp import MLP
from trellis.optim.schedule import Schedule
from trellis.spec import TensorSpec


def fit_one(objective, data, root, **options):
    trainer = quiet_trainer(root, max_epochs=1, **options)
    trainer.fit(objective, datamodule=data)
    return trainer


def text(in_channels: int, out_channels: int) -> str:
    return "no network"


MISFITS = {
    "graph network for vectors": (
        Classification(GCN), Points(),
        r"Classification calls network\(x\), but GCN.forward takes \(x.*edge_index",
    ),
    "vector network for a graph": (
        NodeClassification(MLP), SmallGraph(),
        r"NodeClassification calls network\(x, edge_index\), but MLP.forward takes",
    ),
    "node network for graphs": (
        GraphClassification(GCN), ManyGraphs(),
        r"GraphClassification calls network\(x, edge_index, batch\), but GCN.forward takes",
    ),
    "other sizes": (
        Classification(nn.Linear), Points(),
        r"calls network\(in_channels=..., out_channels=...\), but Linear takes \(in_features",
    ),
    "an instance": (Classification(MLP(6, 3)), Points(), "MLP that is already built.*partial"),
    "no network": (Classification(text), Points(), "text made a str, not a network"),
    "data of another kind": (
        Classification(MLP), SmallGraph(),
        "Classification learns from data with a TensorSpec; SmallGraph has a NodeSpec",
    ),
    "spec of other data": (
        Classification(MLP, spec=TensorSpec(7, 3)), Points(),
        r"Classification: spec contradicts Points \(in_channels: 7 != 6\)",
    ),
    "real targets for classes": (
        Classification(MLP), Lines(),
        "Classification predicts class labels, .* real-valued targets .*: use Regression",
    ),
    "labels for a regression": (
        Regression(MLP), Points(),
        "Regression predicts real-valued targets, .* class labels .*: use Classification",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*is not in the checkpoint")
@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_refused(name, tmp_path):
    objective, data, message = MISFITS[name]
    with pytest.raises(ValueError, match=message):
        fit_one(objective, data, tmp_path)


class BadLabels(Points):
    """One label too large, and none of the training batches' sizes wrong."""

    def __init__(self, label: int = 3) -> None:
        super().__init__()
        self.y = self.y.clone()
        self.y[-1] = label


@pytest.mark.parametrize("label", [3, -1])
def test_labels_out_of_range_are_named(label, tmp_path):
    message = (
        rf"labels lie in \[{min(label, 0)}, {max(label, 2)}\].*out_channels=3: expected 0 to 2"
    )
    with pytest.raises(ValueError, match=message):
        fit_one(Classification(mlp), BadLabels(label), tmp_path, num_sanity_val_steps=0)


def test_two_classes_at_least(tmp_path):
    with pytest.raises(ValueError, match="Classification: out_channels=1: give at least 2"):
        fit_one(Classification(mlp), Points(num_classes=1), tmp_path)


def test_sizes_are_needed(tmp_path):
    with pytest.raises(ValueError, match="sizes of the data are unknown; give spec="):
        Classification(mlp).configure_model()
    loader = Points().train_dataloader()
    with pytest.raises(ValueError, match="sizes of the data are unknown"):
        quiet_trainer(tmp_path).fit(Classification(mlp), loader, loader)
    given = Classification(mlp, spec=TensorSpec(6, 3))
    quiet_trainer(tmp_path, max_epochs=1).fit(given, loader, loader)


@pytest.mark.parametrize("kind", [trellis.Trainer, L.Trainer])
def test_a_trainer_that_is_used_again_forgets_the_data_of_before(kind, tmp_path):
    trainer = kind(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, max_epochs=1,
    )  # fmt: skip
    old = SmallGraph()
    trainer.fit(NodeClassification(GCN), datamodule=old)
    old.setup = partial(pytest.fail, "the old data are set up again")
    loader = Points().train_dataloader()
    trainer.fit_loop.max_epochs = 2
    with pytest.raises(ValueError, match="sizes of the data are unknown"):
        trainer.fit(Classification(mlp), loader, loader)
    objective = Classification(mlp, spec=TensorSpec(6, 3))
    trainer.fit(objective, loader, loader)
    for use in (trainer.validate, trainer.test, trainer.predict):
        use(objective, loader)
    saved = tmp_path / "own.ckpt"
    trainer.save_checkpoint(saved)
    assert torch.load(saved, weights_only=True)["trellis"]["data"] is None
    trainer.test(objective, Points())  # data modules may stand where loaders do
    with pytest.raises(ValueError, match="it was built for other data than Points"):
        trainer.test(objective, datamodule=Points(num_classes=2))


def test_built_once_and_used_without_a_trainer():
    objective = Classification(mlp, spec=TensorSpec(6, 3))
    objective.configure_model()
    network = objective.network
    objective.configure_model()
    assert objective.network is network
    batch = next(iter(Points().train_dataloader()))
    assert objective.training_step(batch, 0).requires_grad
    assert objective.hparams["spec"]["in_channels"] == 6


@pytest.mark.parametrize("use", ["fit", "validate", "test", "predict"])
def test_a_built_objective_is_compared_with_other_data(use, tmp_path):
    trained = run(CASES["classification"], tmp_path, max_epochs=1)
    again = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    for objective in (trained.objective, trellis.load(trained.last)):
        getattr(again, use)(objective, datamodule=Points())
        with pytest.raises(
            ValueError,
            match=r"^Classification: it was built for other data than Points "
            r"\(out_channels: 3 != 2\); take a new Classification or use the data it was "
            r"made for$",
        ):
            getattr(again, use)(objective, datamodule=Points(num_classes=2))
        with pytest.raises(ValueError, match="learns from data with a TensorSpec; SmallGraph has"):
            getattr(again, use)(objective, datamodule=SmallGraph())


def test_another_vocabulary_of_the_same_size_is_another(tmp_path):
    def texts(letters: str) -> DateFormats:
        data = DateFormats(num_train=8, num_val=8, num_test=8, batch_size=8)
        data.setup()
        other = json.dumps({"type": "character", "tokens": list(letters)})
        source = replace(data.spec.source, tokenizer=other)
        data.spec = replace(data.spec, source=source)
        return data

    objective = CASES["pairs"].objective()
    short = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0}
    quiet_trainer(tmp_path, **short).fit(objective, datamodule=texts("abc"))
    with pytest.raises(ValueError, match=r"\(source.tokenizer: another vocabulary\)"):
        quiet_trainer(tmp_path).test(objective, datamodule=texts("abd"))


def test_a_second_fit_goes_on_from_the_first(tmp_path):
    objective = Classification(mlp, adam)
    trainer = fit_one(objective, Points(), tmp_path)
    first = [parameter.clone() for parameter in objective.parameters()]
    again = fit_one(objective, Points(), tmp_path)
    assert again.run_dir != trainer.run_dir
    assert any(not torch.equal(a, b) for a, b in zip(first, objective.parameters(), strict=True))
    # The same trainer again: one callback of each kind, not two.
    trainer.fit_loop.max_epochs = 2
    trainer.fit(objective, datamodule=Points())
    for kind in (ExactResume, FiniteGuard):
        assert sum(isinstance(callback, kind) for callback in trainer.callbacks) == 1


def test_a_callback_of_the_user_stays(tmp_path):
    mine = FiniteGuard(every_n_steps=7)
    trainer = fit_one(Classification(mlp), Points(), tmp_path, callbacks=[mine])
    assert [c for c in trainer.callbacks if isinstance(c, FiniteGuard)] == [mine]
    assert any(isinstance(callback, ExactResume) for callback in trainer.callbacks)


class Interrupt(L.Callback):
    """Ends the second validation in its middle."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if batch_idx == 2 and trainer.current_epoch == 1:
            raise RuntimeError("enough")


def test_an_interrupted_evaluation_leaves_no_counts_behind(tmp_path):
    case = CASES["classification"]
    interrupted = run(case, tmp_path, callbacks=[Interrupt()])
    assert str(interrupted.error) == "enough"
    options = {"datamodule": Points(), "verbose": False}
    after = quiet_trainer(tmp_path).validate(interrupted.objective, **options)
    fresh = Classification(mlp, spec=TensorSpec(6, 3))
    fresh.configure_model()
    fresh.load_state_dict(interrupted.objective.state_dict())
    assert after == quiet_trainer(tmp_path).validate(fresh, **options)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 100.0, None])
def test_gradients_are_scaled_down_and_never_up(max_norm):
    parts, others = ([nn.Parameter(torch.zeros(n)) for n in (3, 4, 2)] for _ in range(2))
    for part, other in zip(parts[:2], others[:2], strict=True):
        part.grad = torch.randn(len(part), generator=torch.Generator().manual_seed(len(part)))
        other.grad = part.grad.clone()
    clip_gradients(torch.optim.SGD(parts, lr=1.0), max_norm)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(others, max_norm)
    for part, other in zip(parts[:2], others[:2], strict=True):
        torch.testing.assert_close(part.grad, other.grad)
    assert parts[2].grad is None


@pytest.mark.parametrize(
    ("scheduler", "interval"),
    [
        (partial(Schedule, total_steps=9), "step"),
        (partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=9), "step"),
        (partial(torch.optim.lr_scheduler.StepLR, step_size=2), "epoch"),
    ],
)
def test_schedules_of_steps_are_stepped_with_each_step(scheduler, interval):
    objective = Classification(mlp, adam, scheduler, spec=TensorSpec(6, 3))
    objective.configure_model()
    assert objective.configure_optimizers()["lr_scheduler"]["interval"] == interval


def test_a_schedule_keeps_the_length_it_was_given():
    optimizer = adam([nn.Parameter(torch.zeros(1))])
    given, asked = Schedule(optimizer, total_steps=7), Schedule(optimizer)
    for each in (given, asked):
        plan(each, lambda: 99)
    assert (given.total_steps, asked.total_steps) == (7, 99)


class Process:
    """One of several, as an evaluation sees it."""

    def __init__(self, rank: int, world: int) -> None:
        self.global_rank, self.world_size = rank, world


class Three:
    """A loader of three batches; two processes serve a fourth one, which is the first again."""

    def repeats(self, number: int) -> bool:
        return number >= 3


def test_processes_draw_what_one_would_and_count_no_batch_twice():
    objective = Classification(mlp, spec=TensorSpec(6, 3))
    objective.configure_model()
    drawn, counted = {}, {}
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        process = Process(rank, world)  # of which the objective keeps no reference
        objective.trainer = process
        for index in range(4 // world):
            with objective._batch_of(Three(), index):
                key = world, index * world + rank
                drawn[key] = float(torch.rand(()))
                counted[key] = objective.evaluated("val") is objective.val_metrics
    assert len({drawn[1, number] for number in range(4)}) == 4
    assert all(drawn[1, number] == drawn[2, number] for number in range(4))
    assert [counted[2, number] for number in range(4)] == [True, True, True, False]


def test_training_is_logged_on_the_steps_that_reach_a_logger(tmp_path):
    trainer = quiet_trainer(tmp_path, max_epochs=2, log_every_n_steps=4, logger=None)
    objective, calls = Classification(mlp), []
    log_dict = objective.log_dict
    objective.log_dict = lambda values, **options: (
        calls.append(values),
        log_dict(values, **options),
    )
    trainer.fit(objective, datamodule=Points())
    # Twice in training, twice after validation: on all other steps nothing is called at all.
    assert [next(iter(values)).split("/")[0] for values in calls].count("train") == 2
    rows = (trainer.run_dir / "metrics.csv").read_text().splitlines()
    step, loss = (rows[0].split(",").index(name) for name in ("step", "train/loss"))
    logged = [int(row.split(",")[step]) for row in rows[1:] if row.split(",")[loss]]
    assert logged == [3, 7]


def test_plateau_scheduler_gets_its_monitor(tmp_path):
    from lightning.pytorch.cli import ReduceLROnPlateau

    schedule = partial(ReduceLROnPlateau, monitor="val/nll_nats", patience=0, threshold=1e9)
    objective = Regression(mlp, adam, schedule)
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(objective, datamodule=Lines())
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.02


def test_forward_of_each_objective_is_the_network(tmp_path):
    graphs = GraphClassification(PooledGCN)
    fit_one(graphs, ManyGraphs(), tmp_path)
    batch = next(iter(ManyGraphs().test_dataloader()))
    graphs.eval()
    inputs = (batch.x, batch.edge_index, batch.batch)
    assert torch.equal(graphs(*inputs), graphs.network(*inputs))


@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_of_a_fused_optimizer_are_clipped(tmp_path, precision, algorithm):
    """Lightning refuses this under bf16-mixed, where there is no scaler to be at odds with."""
    moved = {}
    for fused in (True, False):
        L.seed_everything(0, verbose=False)
        objective = Classification(mlp, partial(torch.optim.SGD, lr=1.0, fused=fused))
        objective.spec = Points().spec
        objective.configure_model()
        before = [weight.detach().clone() for weight in objective.parameters()]
        fit_one(
            objective, Points(), tmp_path, precision=precision, limit_train_batches=1,
            gradient_clip_val=0.01, gradient_clip_algorithm=algorithm,
        )  # fmt: skip
        steps = [(a - b).flatten() for a, b in zip(before, objective.parameters(), strict=True)]
        moved[fused] = torch.cat(steps).detach()
    torch.testing.assert_close(moved[True], moved[False])
    size = moved[True].norm() if algorithm == "norm" else moved[True].abs().max()
    assert float(size) == pytest.approx(0.01, rel=1e-3)


def test_an_overridden_loss_is_that_of_training_and_evaluation(tmp_path):
    class Doubled(Classification):
        def loss(self, logits, labels, label_smoothing=0.0):
            return 2 * super().loss(logits, labels, label_smoothing)

    def losses(cls):
        L.seed_everything(0, verbose=False)
        still = partial(torch.optim.SGD, lr=0.0)
        # Every run logs each step, with weights that do not move.
        trainer = fit_one(cls(mlp, still), Points(), tmp_path, log_every_n_steps=1)
        return [float(trainer.callback_metrics[name]) for name in ("train/loss", "val/loss")]

    once, twice = losses(Classification), losses(Doubled)
    assert twice == pytest.approx([2 * value for value in once])


def test_a_loss_that_nothing_would_call_is_refused():
    with pytest.raises(TypeError, match=r"Mine.loss: Regression.training_step does not call it"):

        class Mine(Regression):
            def loss(self, outputs, targets):
                return outputs.sum()

    class Own(Regression):
        def loss(self, outputs, targets):
            return outputs.sum()

        def training_step(self, batch, batch_idx):
            return self.loss(self.network(batch[0]), batch[1])

    class Further(Own):
        def loss(self, outputs, targets):
            return outputs.mean()


def test_training_starts_in_training_mode(tmp_path):
    """``trellis.load`` hands an objective over in the mode for use."""
    objective = Classification(mlp, spec=TensorSpec(6, 3))
    objective.configure_model()
    modes = []
    step = objective.training_step
    objective.training_step = lambda *batch: (
        modes.append(objective.network.training),
        step(*batch),
    )[1]
    fit_one(objective.eval(), Points(), tmp_path, num_sanity_val_steps=0)
    assert modes
    assert all(modes)


class Draws(Classification):
    """Notes what each batch of an evaluation would draw."""

    def evaluate(self, batch, stage):
        super().evaluate(batch, stage)
        vars(self).setdefault("drawn", []).append(float(torch.rand(())))


def test_every_evaluation_draws_the_same_and_each_batch_anew(tmp_path):
    objective = Draws(mlp)
    trainer = quiet_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(objective, datamodule=Points())
    first, second = objective.drawn[:5], objective.drawn[5:]
    assert first == second
    assert len(set(first)) == 5
    torch.manual_seed(123)
    state = torch.get_rng_state()
    trainer.validate(objective, datamodule=Points(), verbose=False)
    assert torch.equal(torch.get_rng_state(), state)
