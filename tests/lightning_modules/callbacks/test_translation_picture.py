"""The picture of translations: an input, its translation and the target in each row."""

import pytest
import torch
from every_objective import OBJECTIVES
from short_runs import run
from translation_cases import Negatives

from trellis.analysis.images import image_grid
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.callbacks import TranslationGrid, after_fit
from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.spec import TensorPairSpec, TensorSpec


class Coloured(Negatives):
    """``Negatives`` of which the targets have colours."""

    def __init__(self) -> None:
        super().__init__()
        self.y = self.y * torch.tensor([1.0, 0.5, 0.2]).view(3, 1, 1)
        image = TensorSpec(3, 0, (8, 8), values="unit")
        self.spec = TensorPairSpec(self.spec.input, image)


@pytest.mark.parametrize("kind", [Negatives, Coloured])
def test_each_row_is_an_input_its_translation_and_the_target(kind, tmp_path, monkeypatch) -> None:
    figures = {}
    monkeypatch.setattr(
        after_fit, "log_picture", lambda _, name, figure: figures.update({name: figure})
    )
    data, model = kind(), OBJECTIVES["Pix2Pix"].objective()
    run(tmp_path, model, data, TranslationGrid(9))
    [(name, figure)] = figures.items()
    assert name == "val/translations"
    model.eval()
    with torch.no_grad():
        rows = [data.x[:9], model(data.x[:9]), data.y[:9]]
    pixels = torch.stack([x.clamp(0, 1).expand(-1, 3, -1, -1) for x in rows], 1).flatten(0, 1)
    expected = image_grid(pixels, TensorSpec(3, 0, (8, 8), values="unit"), columns=3)
    shown = torch.as_tensor(figure.axes[0].images[0].get_array())
    torch.testing.assert_close(shown, expected.permute(1, 2, 0))


def test_what_cannot_be_shown_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="TranslationGrid works with .* not with Autoencoder"):
        run(tmp_path, Autoencoder(), Digits(), TranslationGrid())
    data = Negatives()
    data.x = data.x.expand(-1, 2, -1, -1)
    data.spec = TensorPairSpec(TensorSpec(2, 0, (8, 8)), data.spec.target)
    with pytest.raises(ValueError, match="TranslationGrid: images of 2 channels cannot be shown"):
        run(tmp_path, OBJECTIVES["Pix2Pix"].objective(), data, TranslationGrid())
