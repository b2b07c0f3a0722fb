"""Two processes with half of the weights each learn what one process learns, and save it whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.distributed as dist
from forked_pair import in_two_processes
from learning_cases import quiet_trainer
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

import trellis
from trellis.datamodules.sequence import CopyReverse, TinyShakespeare
from trellis.lightning_modules.callbacks import Alignments, SampledText, Translations
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.own_steps import clip_gradients
from trellis.lightning_modules.engine.sharding import (
    block_modules,
    gathered,
    shard,
    shard_network,
)
from trellis.lightning_modules.generative import GAN
from trellis.lightning_modules.rl import DQN
from trellis.lightning_modules.sequence import CausalLM, SequenceToSequence
from trellis.lightning_modules.vector import Classification
from trellis.networks.image import ViT
from trellis.networks.sequence import (
    GPT,
    BertClassifier,
    BertPretraining,
    BertTagger,
    TransformerSeq2Seq,
)
from trellis.spec import TokenSpec
from trellis.torch_private import total_norm

SIZES: dict[str, Any] = {"embed_dim": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
PADDED: dict[str, Any] = {**SIZES, "pad_id": 0, "head_dropout": 0.0}
gpt = partial(GPT, context=8, **SIZES)
transformer = partial(TransformerSeq2Seq, feedforward_dim=12, **SIZES)
tokens = torch.randint(1, 11, (4, 8), generator=torch.Generator().manual_seed(0))
images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
NETWORKS: dict[str, tuple[Any, tuple[Tensor, ...]]] = {
    "GPT": (partial(gpt, 11), (tokens,)),
    "BertPretraining": (partial(BertPretraining, 11, pad_id=0, **SIZES), (tokens,)),
    "BertClassifier": (partial(BertClassifier, 11, 3, **PADDED), (tokens,)),
    "BertTagger": (partial(BertTagger, 11, 3, **PADDED), (tokens,)),
    "TransformerSeq2Seq": (
        partial(transformer, 11, 11, source_pad_id=0, target_pad_id=0, tie="all"),
        (tokens, tokens.flip(1)),
    ),
    "ViT": (partial(ViT, 1, 3, image_size=8, feedforward_dim=12, **SIZES), (images,)),
}  # fmt: skip


def squares(network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """A loss that reaches all outputs: a mean over examples."""
    output = network(*inputs)
    parts = output if isinstance(output, tuple) else (output,)
    return sum(part.square().mean() for part in parts if isinstance(part, Tensor))


def whole(tensor: Any) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def gradients(folder: Path) -> dict[str, Any]:
    """Gradients of each network over half of the batch, and their norms."""
    dist.init_process_group("gloo")
    mesh, rank = init_device_mesh("cpu", (2,)), dist.get_rank()
    found = {}
    for name, (make, inputs) in NETWORKS.items():
        torch.manual_seed(rank)  # the weights are those of the first process all the same
        network = make()
        shard_network(network, mesh)
        mine = tuple(each[2 * rank : 2 * rank + 2] for each in inputs)
        squares(network, mine).backward()
        named = dict(network.named_parameters())
        local = sum(each.to_local().numel() for each in named.values())
        norm = whole(total_norm([each.grad for each in named.values()]))
        found[name] = {
            "gradients": {key: whole(each.grad) for key, each in named.items()},
            "share": local / sum(each.numel() for each in named.values()),
            "norm": norm,
        }
        clip_gradients(torch.optim.SGD(network.parameters(), 0.1), float(norm) / 4)
        found[name]["clipped"] = whole(total_norm([each.grad for each in named.values()]))
    dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def of_networks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_two_processes(gradients, tmp_path_factory.mktemp("networks"))


@pytest.mark.long
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_their_norm_are_those_of_one_process(name, of_networks) -> None:
    make, inputs = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    squares(network, inputs).backward()
    expected = {key: each.grad for key, each in network.named_parameters()}
    norm = total_norm(list(expected.values()))
    for found in (each[name] for each in of_networks):
        torch.testing.assert_close(found["gradients"], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found["norm"], norm)
        torch.testing.assert_close(found["clipped"], norm / 4)
        assert 0.4 < found["share"] < 0.6


@pytest.mark.parametrize("name", NETWORKS)
def test_all_layers_of_transformers_are_blocks(name: str) -> None:
    network = NETWORKS[name][0]()
    in_blocks = {p for block in block_modules(network) for p in block.parameters()}
    lists = [each for each in network.modules() if isinstance(each, nn.ModuleList)]
    assert lists
    assert in_blocks == {p for each in lists for p in each.parameters()}


class Watch(L.Callback):
    def __init__(self, break_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.break_at = break_at

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        mean = trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")
        self.losses.append(float(mean))

    def on_after_backward(self, trainer, pl_module) -> None:
        if trainer.global_step == self.break_at and trainer.global_rank == 1:
            next(pl_module.parameters()).grad.to_local()[0] = float("nan")


class Thaw(BaseFinetuning):
    """The first layer learns from the second epoch on."""

    def freeze_before_training(self, pl_module) -> None:
        self.freeze(pl_module.network.layers[0])

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.network.layers[0], optimizer, lr=0.5)


def language(folder: Path, batch_size: int) -> tuple[Objective, Any]:
    data = TinyShakespeare(path=folder / "text.txt", batch_size=batch_size, context=8, seed=0)
    return CausalLM(gpt, partial(torch.optim.SGD, lr=1.0, momentum=0.9)), data


def fit(folder: Path, world: int, steps: int = 6, **options: Any) -> dict[str, Any]:
    """A run of the language model; batches of all processes together have 8 texts."""
    L.seed_everything(0, verbose=False)
    callbacks = [watch := Watch(options.pop("break_at", None)), *options.pop("callbacks", ())]
    ckpt_path = options.pop("ckpt_path", None)
    module, data = language(folder, 8 // world)
    trainer = quiet_trainer(
        folder / f"{world}", callbacks=callbacks, max_steps=steps, max_epochs=-1, devices=world,
        strategy="sharded" if world == 2 else "auto", gradient_clip_val=0.1,
        val_check_interval=3, limit_val_batches=4 // world, num_sanity_val_steps=0, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    weights = {name: whole(value).clone() for name, value in module.state_dict().items()}
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    files = trainer.checkpoint_callback
    last, best = files.last_model_path, files.best_model_path
    return {
        "losses": watch.losses, "weights": weights, "metrics": metrics, "last": last, "best": best
    }  # fmt: skip


def language_runs(folder: Path) -> dict[str, Any]:
    found = {"straight": fit(folder, 2)}
    before = fit(folder, 2, steps=4)
    found["resumed"] = fit(folder, 2, ckpt_path=before["last"])
    try:
        fit(folder, 2, break_at=2)
    except FloatingPointError as error:
        found["error"] = str(error)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    return folder, in_two_processes(language_runs, folder)


@pytest.mark.long
def test_a_run_is_that_of_one_process_on_the_joined_batch(runs) -> None:
    folder, pair = runs
    one = fit(folder, 1)
    assert one["losses"][-1] < one["losses"][0] - 0.1
    for found in (each["straight"] for each in pair):
        assert found["losses"] == pytest.approx(one["losses"], rel=1e-5)
        assert found["metrics"] == pytest.approx(one["metrics"], rel=1e-5)
        torch.testing.assert_close(found["weights"], one["weights"], rtol=1e-5, atol=1e-6)


def test_a_checkpoint_is_one_file_with_the_weights_as_trained(runs) -> None:
    folder, pair = runs
    straight = pair[0]["straight"]
    loaded = trellis.load(straight["last"])
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, straight["weights"][name])


def test_a_resumed_run_is_bit_equal(runs) -> None:
    for found in runs[1]:
        assert found["resumed"]["losses"] == found["straight"]["losses"][4:]
        for name, value in found["resumed"]["weights"].items():
            assert torch.equal(value, found["straight"]["weights"][name])


def test_nan_in_the_part_of_one_process_ends_both_alike(runs) -> None:
    messages = {each["error"] for each in runs[1]}
    assert len(messages) == 1
    assert "step 2: the gradient is not finite in network.tokens.weight;" in messages.pop()


def more_runs(folder: Path) -> dict[str, Any]:
    found = {"accumulated": fit(folder, 2, accumulate_grad_batches=2)}
    # It was written after three batches: half of a gradient is in it.
    best = Path(found["accumulated"]["best"])
    assert torch.load(best)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"] % 2
    found["resumed"] = fit(folder, 2, accumulate_grad_batches=2, ckpt_path=str(best))
    module, data = language(folder, 4)
    callbacks = [SampledText("to be", num_rows=2, max_new_tokens=4)]
    options = {"devices": 2, "strategy": "sharded", "max_steps": 1, "callbacks": callbacks}
    trainer = quiet_trainer(folder / "new", **options)
    trainer.fit(module, datamodule=data, init_from=best)
    with gathered(module), torch.no_grad():  # calls that the other process does not make
        text = torch.ones(1, 2 + dist.get_rank(), dtype=torch.long)
        found["alone"] = [module.network(text)[0].sum() for _ in range(1 + dist.get_rank())]
    trainer = quiet_trainer(folder / "new", **options)
    trainer.fit(module, datamodule=data)  # once more, with the same module
    found["last"] = trainer.checkpoint_callback.last_model_path
    found["test"] = trainer.test(module, datamodule=data, verbose=False)[0]
    found["test_best"] = trainer.test(module, datamodule=data, ckpt_path=best, verbose=False)[0]
    found["pairs"] = translate(folder, 2)
    for name in ("bf16-mixed", "bf16-true", "64-true"):
        found[name] = fit(folder, 2, precision=name)
    found["thawed"] = fit(folder, 2, callbacks=[Thaw()], limit_train_batches=3)
    found["compiled"] = fit(folder, 2, compile="aot_eager")
    return found


def translate(folder: Path, world: int) -> dict[str, Any]:
    """Sentences of different lengths: a process may generate more tokens than the other."""
    L.seed_everything(0, verbose=False)
    data = CopyReverse(
        length=6, min_length=2, num_train=32, num_val=10, num_test=10, batch_size=8 // world
    )
    module = SequenceToSequence(transformer, partial(torch.optim.Adam, lr=0.0), max_new_tokens=9)
    trainer = quiet_trainer(
        folder / "pairs", devices=world, strategy="sharded" if world == 2 else "auto",
        max_epochs=1, callbacks=[Alignments(2), Translations(3)],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    predicted = trainer.predict(module, datamodule=data)
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
    return {"metrics": metrics, "predicted": sum(predicted, [])}


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("more")
    (folder / "text.txt").write_text("to be or not to be, that is the question\n" * 20)
    return folder, in_two_processes(more_runs, folder)


@pytest.mark.long
def test_half_of_a_gradient_is_in_a_checkpoint(more) -> None:
    for found in more[1]:
        straight, resumed = found["accumulated"], found["resumed"]
        assert resumed["losses"] == straight["losses"][-len(resumed["losses"]) :]
        for name, value in resumed["weights"].items():
            assert torch.equal(value, straight["weights"][name])


@pytest.mark.long
def test_two_processes_test_like_one(more) -> None:
    folder, pair = more
    for key, path in (("test", pair[0]["last"]), ("test_best", pair[0]["accumulated"]["best"])):
        (expected,) = quiet_trainer(folder).test(
            trellis.load(path), datamodule=language(folder, 8)[1], verbose=False
        )
        for found in pair:
            assert found[key] == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_within_gathered_a_process_calls_the_network_alone(more) -> None:
    assert [len(each["alone"]) for each in more[1]] == [1, 2]


@pytest.mark.long
def test_sentences_of_different_lengths_are_generated(more) -> None:
    folder, pair = more
    one = translate(folder / "one", 1)
    for found in pair:
        assert found["pairs"]["predicted"] == one["predicted"]
        assert found["pairs"]["metrics"] == pytest.approx(one["metrics"], rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "tolerance"),
    [("bf16-mixed", 0.02), ("bf16-true", 0.1), ("64-true", 0.2), ("compiled", 1e-5)],
)
def test_precisions_and_compiled_runs(how: str, tolerance: float, more) -> None:
    folder, pair = more
    one = fit(folder, 1)
    for found in pair:
        assert found[how]["losses"] == pytest.approx(one["losses"], rel=tolerance)


@pytest.mark.long
def test_layers_that_learn_later(more) -> None:
    folder, pair = more
    one = fit(folder, 1, callbacks=[Thaw()], limit_train_batches=3)
    for found in pair:
        assert found["thawed"]["losses"] == pytest.approx(one["losses"], rel=1e-5)


def sharded(folder: Path, **options: Any) -> Any:
    return quiet_trainer(folder, devices=2, strategy="sharded", **options)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (GAN(), "GAN makes its own steps"),
        (DQN(), "DQN makes its own steps"),
        (SequenceToSequence(scheduled_sampling=0.1), "with scheduled_sampling calls its decoder"),
    ],
)
def test_objectives_that_cannot_be_sharded_are_refused(module, said, tmp_path) -> None:
    with pytest.raises(ValueError, match=rf"^strategy=sharded: .*{said}.*; train with .* ddp$"):
        sharded(tmp_path).fit(module, datamodule=CopyReverse())


@pytest.mark.parametrize(
    "callback", [StochasticWeightAveraging(0.1), WeightAveraging()], ids=["swa", "average"]
)
def test_callbacks_on_whole_weights_are_refused(callback, tmp_path) -> None:
    with pytest.raises(ValueError, match=f"{type(callback).__name__} works on whole weights"):
        sharded(tmp_path, callbacks=[callback]).fit(CausalLM(gpt), datamodule=CopyReverse())


def test_other_precisions_and_strategies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"precision=16-true: strategy=sharded trains in 32-true"):
        sharded(tmp_path, precision="16-true").fit(CausalLM(gpt), datamodule=CopyReverse())
    trainer = quiet_trainer(tmp_path, devices=2, strategy=ModelParallelStrategy())
    with pytest.raises(ValueError, match=r"^ModelParallelStrategy writes .*\.strategy sharded$"):
        trainer.fit(CausalLM(gpt), datamodule=CopyReverse())


def test_weights_outside_of_the_networks_are_refused() -> None:
    module = CausalLM(gpt, spec=TokenSpec(11))
    module.configure_model()
    module.scale = nn.Parameter(torch.ones(1))
    with dist_of_one():
        module._device_mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
        with pytest.raises(ValueError, match=r"scale belongs to no network"):
            shard(module)


@contextmanager
def dist_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_a_network_without_blocks_is_refused() -> None:
    network = Classification().network_factory(4, 2)
    with pytest.raises(ValueError, match=r"MLP declares no block_classes"):
        shard_network(network, None)


def test_gathered_does_nothing_where_nothing_is_sharded() -> None:
    network = gpt(11)
    before = [id(each) for each in network.parameters()]
    with gathered(network):
        assert [id(each) for each in network.parameters()] == before
