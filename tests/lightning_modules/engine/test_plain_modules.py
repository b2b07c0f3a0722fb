"""``trellis.Trainer`` and ``trellis fit`` take any LightningModule and any LightningDataModule."""

from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from trellis.lightning_modules import cli


class Plain(L.LightningModule):
    """Nothing of ours: no spec, no monitor, dropout to draw random numbers."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Linear(width, 2))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("test_loss", self.training_step(batch, batch_idx))

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class PlainData(L.LightningDataModule):
    """40 points in torch's own loader."""

    def __init__(self, size: int = 40) -> None:
        super().__init__()
        self.save_hyperparameters()
        x = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(x, (x[:, 0] > 0).long())

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=8)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


def test_the_trainer_resumes_a_plain_module_exactly(tmp_path: Path) -> None:
    def fit(root: str, epochs: int, ckpt_path: str | None = None) -> L.Trainer:
        L.seed_everything(0, verbose=False)
        trainer = quiet_trainer(tmp_path / root, max_epochs=epochs)
        trainer.fit(Plain(), datamodule=PlainData(), ckpt_path=ckpt_path)
        return trainer

    whole, half = fit("whole", 4), fit("half", 2)
    resumed = fit("resumed", 4, half.checkpoint_callback.last_model_path)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    # Nobody said what to monitor: the newest state is the best.
    best = torch.load(whole.checkpoint_callback.best_model_path, weights_only=True)
    assert best["global_step"] == 20


def test_a_trainer_that_is_used_again_forgets_the_data_of_before(tmp_path: Path) -> None:
    trainer, data = quiet_trainer(tmp_path, max_epochs=1), PlainData()
    trainer.fit(Plain(), datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(Plain(), data.train_dataloader(), data.val_dataloader())
    assert trainer.datamodule is None
    last = torch.load(trainer.checkpoint_callback.last_model_path, weights_only=True)
    assert last["trellis"]["data"] is None


def test_a_plain_module_is_stopped_before_nan_reaches_its_weights(tmp_path: Path) -> None:
    class Bad(Plain):
        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * float("nan")

    with pytest.raises(FloatingPointError, match="step 0: the gradient is not finite"):
        quiet_trainer(tmp_path).fit(Bad(), datamodule=PlainData())


def test_the_command_line_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRELLIS_TRUST", __name__.partition(".")[0])
    quiet = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
    fit = ["fit", f"--model={__name__}.Plain", f"--data={__name__}.PlainData"]
    cli.main([*fit, "--trainer.max_epochs=1", *quiet])
    best = "runs/plain_plaindata/0/checkpoints/best.ckpt"
    cli.main(["test", "--ckpt_path", best])
    assert "test_loss" in capsys.readouterr().out
    cli.main(["predict", "--ckpt_path", best, *quiet])
    (table,) = tmp_path.rglob("predictions.csv")
    assert len(table.read_text().splitlines()) == 41
