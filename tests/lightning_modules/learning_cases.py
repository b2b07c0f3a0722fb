"""Small data, one case for each objective, and a way to run it: shared by the tests beside it."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning as L
import torch
from token_cases import FirstWord, Names, Streams, WordGuesser, WordPairs, WordVotes
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, global_add_pool

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.knowledge_graph import Triples
from trellis.datamodules.sequence.copy_reverse import CopyReverse
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.lightning_modules.generative.variational import Variational
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.lightning_modules.graph.knowledge_graph_completion import KnowledgeGraphCompletion
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.masked_lm import MaskedLM
from trellis.lightning_modules.sequence.sequence_classification import SequenceClassification
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence
from trellis.lightning_modules.sequence.tagging import Tagging
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.generative.autoencoder import MLPAutoencoder
from trellis.networks.generative.flow_autoregressive import NSF
from trellis.networks.generative.vae import VAE
from trellis.networks.graph.gnn import GCN
from trellis.networks.graph.knowledge_graph import RGCN
from trellis.networks.sequence.recurrent import RecurrentLM
from trellis.networks.sequence.transformer import TransformerSeq2Seq
from trellis.networks.vector.mlp import MLP
from trellis.optim.schedule import Schedule
from trellis.spec import GraphSpec, NodeSpec, TensorSpec


class Points(DataModule):
    """37 points of 6 features with a class each: batches of 8, the last one of 5."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(37, 6, generator=generator)
        self.y = self.x[:, :num_classes].argmax(-1)
        self.spec = TensorSpec(6, num_classes)

    def loader(self, split: str) -> Loader:
        return tensor_loader(self.x, self.y, batch_size=8, train=split == "train")


class Lines(DataModule):
    """37 points of 6 features with two real targets each."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(37, 6, generator=generator)
        self.y = self.x[:, :2] - self.x[:, 2:4] + 0.1 * torch.randn(37, 2, generator=generator)
        self.spec = TensorSpec(6, 2, targets="real")

    def loader(self, split: str) -> Loader:
        return tensor_loader(self.x, self.y, batch_size=8, train=split == "train")


class SmallGraph(DataModule):
    """One graph of 20 nodes in 2 classes, five steps an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(2)
        data = Data(
            x=torch.randn(20, 4, generator=generator),
            edge_index=torch.randint(20, (2, 60), generator=generator),
            y=torch.arange(20) % 2,
        )
        for number, split in enumerate(("train", "val", "test")):
            data[f"{split}_mask"] = torch.arange(20) // 2 % 3 == number
        self.data, self.spec = data, NodeSpec(4, 2)

    def loader(self, split: str) -> Loader:
        return Loader(5 if split == "train" else 1, lambda _: self.data)


class ManyGraphs(DataModule):
    """22 graphs of 3 to 7 nodes in 2 classes: batches of 5, the last one of 2."""

    def __init__(self, targets: str = "labels") -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(3)
        self.graphs = [
            Data(
                x=torch.randn(3 + i % 5, 4, generator=generator) + i % 2,
                edge_index=torch.randint(3 + i % 5, (2, 8), generator=generator),
                y=torch.tensor([i % 2]),
            )
            for i in range(22)
        ]
        self.spec = GraphSpec(4, 2)
        if targets != "labels":
            self.spec = GraphSpec(4, 2, targets=targets)
            for number, graph in enumerate(self.graphs):
                graph.y = torch.tensor([[number % 2, torch.nan if number % 3 else 1.0]])

    def loader(self, split: str) -> Loader:
        def fetch(indices: Tensor) -> Batch:
            return Batch.from_data_list([self.graphs[i] for i in indices.tolist()])

        train = split == "train"
        return Loader(22, fetch, batch_size=5, shuffle=train)


class Family(Triples):
    """37 triples of people in a line: whose child one is, and who is of one's own sex."""

    def __init__(self) -> None:
        super().__init__(batch_size=8)
        self.save_hyperparameters(logger=False)

    def texts(self) -> dict[str, tuple[str, str]]:
        children = [f"p{n}\tchild_of\tp{n - 1}" for n in range(1, 21)]
        alike = [f"p{n}\tlike\tp{n + 2}" for n in range(17)]
        return {
            split: (split, "\n".join([*children, *alike][first::step]))
            for split, first, step in (("train", 0, 1), ("val", 1, 3), ("test", 2, 3))
        }


class PooledGCN(nn.Module):
    """One convolution, summed over each graph."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = GCNConv(in_channels, 8)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, out_channels))

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        return self.head(global_add_pool(self.convolution(x, edge_index), batch))


adam = partial(torch.optim.Adam, lr=0.02)
scheduler = partial(StepLR, step_size=2, gamma=0.5)
stepwise = partial(Schedule, warmup_steps=2, decay="inverse_sqrt")
mlp = partial(MLP, hidden_channels=(8,), dropout=0.3)


small_gru = partial(RecurrentLM, embed_dim=4, hidden_size=8, num_layers=2, dropout=0.3)
small_transformer = partial(
    TransformerSeq2Seq, embed_dim=8, num_heads=2, num_layers=1, feedforward_dim=16, dropout=0.3
)


class Case(NamedTuple):
    objective: partial
    data: Callable[[], DataModule]


CASES = {
    "classification": Case(partial(Classification, mlp, adam, scheduler), Points),
    "regression": Case(partial(Regression, mlp, adam, scheduler, None, "heteroscedastic"), Lines),
    "node": Case(
        partial(NodeClassification, partial(GCN, hidden_channels=8), adam, scheduler), SmallGraph
    ),
    "graph": Case(partial(GraphClassification, PooledGCN, adam, scheduler), ManyGraphs),
    "carried": Case(
        partial(CausalLM, small_gru, adam, scheduler, carry_state=True), partial(Streams, steps=5)
    ),
    "pairs": Case(
        partial(
            SequenceToSequence,
            small_transformer,
            adam,
            stepwise,
            scheduled_sampling=0.3,
            max_new_tokens=5,
        ),
        partial(CopyReverse, length=3, num_train=37, num_val=5, num_test=5, batch_size=8),
    ),
    "masked": Case(partial(MaskedLM, WordGuesser, adam, scheduler), WordPairs),
    "labelled": Case(partial(SequenceClassification, WordVotes, adam, scheduler), FirstWord),
    "codes": Case(
        partial(
            Autoencoder,
            partial(MLPAutoencoder, latent_dim=2, hidden_channels=(8,)),
            adam,
            scheduler,
            gaussian_noise=0.1,
            masking=0.1,
            sparsity=0.01,
            contraction=0.01,
        ),
        Points,
    ),
    "density": Case(
        partial(
            DensityEstimation, partial(NSF, hidden_channels=(8,)), adam, stepwise, conditional=True
        ),
        Points,
    ),
    "latent": Case(
        partial(
            Variational,
            partial(VAE, latent_dim=2, hidden_channels=(8,)),
            adam,
            scheduler,
            likelihood="gaussian",
            beta_steps=12,
            num_samples=3,
            conditional=True,
        ),
        Points,
    ),
    "triples": Case(
        partial(
            KnowledgeGraphCompletion,
            partial(RGCN, embed_dim=8, dropout=0.3),
            adam,
            scheduler,
            num_negatives=5,
            regularization=0.01,
        ),
        Family,
    ),
    "tagged": Case(partial(Tagging, partial(WordVotes, each=True), adam, scheduler), Names),
}


class Recorder(L.Callback):
    """What a run saw and reported: every batch, every evaluation."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        first = batch[0] if isinstance(batch, (tuple, list)) else getattr(batch, "x", batch)
        if isinstance(first, tuple):  # of a pair of sentences, the first
            first = first[0]
        # Of a block of updates, what the agent saw between them.
        self.batches.append(getattr(first, "observations", first).clone())

    def on_validation_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            # global_step says to which weights the values belong.
            values = {k: float(v) for k, v in trainer.callback_metrics.items() if "val/" in k}
            self.metrics.append({"step": trainer.global_step, **values})


class Kill(L.Callback):
    """Press Ctrl-C as a batch of the run begins, counted from 0."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.current_epoch * trainer.num_training_batches + batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGINT)


class Run(NamedTuple):
    objective: L.LightningModule
    recorder: Recorder
    trainer: Trainer
    error: BaseException | None

    @property
    def weights(self) -> dict[str, Tensor]:
        return self.objective.state_dict()

    @property
    def last(self) -> Path:
        return Path(self.trainer.checkpoint_callback.last_model_path)

    @property
    def best(self) -> Path:
        return Path(self.trainer.checkpoint_callback.best_model_path)


def quiet_trainer(root: Path, **options) -> Trainer:
    """A trainer without any output but its checkpoints."""
    defaults = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": 4,
    }
    return Trainer(**{**defaults, **options})


def run(case: Case, root: Path, *, seed: int = 0, callbacks=(), ckpt_path=None, **options) -> Run:
    """Fit a case from scratch or from a checkpoint; whatever ends it is returned."""
    L.seed_everything(seed, verbose=False)
    recorder, error = Recorder(), None
    objective = case.objective()
    trainer = quiet_trainer(root, callbacks=[recorder, *callbacks], **options)
    try:
        trainer.fit(objective, datamodule=case.data(), ckpt_path=ckpt_path)
    except BaseException as raised:  # noqa: BLE001 - SystemExit is how Lightning ends after Ctrl-C
        error = raised
    return Run(objective, recorder, trainer, error)


def assert_equal_weights(a: Run, b: Run) -> None:
    """Bit-equal, not close."""
    assert a.weights.keys() == b.weights.keys()
    different = [name for name in a.weights if not torch.equal(a.weights[name], b.weights[name])]
    assert not different
