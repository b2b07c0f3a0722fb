"""The map of embeddings is drawn once, and refused where there is nothing to map."""

from functools import partial
from pathlib import Path

import pytest
from short_runs import run

from trellis.datamodules.graph import KarateClub, NodeWalks
from trellis.datamodules.vector import Digits
from trellis.lightning_modules.callbacks import EmbeddingPicture
from trellis.lightning_modules.sequence import SkipGram
from trellis.lightning_modules.vector import Classification
from trellis.networks.sequence import SkipGramEmbedding


def test_a_fit_ends_with_a_map_of_the_embeddings(tmp_path: Path) -> None:
    from matplotlib.image import imread

    trainer = run(
        tmp_path,
        SkipGram(partial(SkipGramEmbedding, embed_dim=4)),
        NodeWalks(KarateClub, walk_length=4, batch_size=34),
        EmbeddingPicture(),
    )
    picture = imread(trainer.run_dir / "pictures" / "embeddings.png")[..., :3]
    colours = {tuple(c) for c in (picture.reshape(-1, 3) * 255).astype(int).tolist()}
    assert len(colours) > 4


def test_it_is_refused_where_there_are_no_embeddings(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="EmbeddingPicture works with SkipGram, not with Classif"):
        run(tmp_path, Classification(), Digits(), EmbeddingPicture())
    with pytest.raises(ValueError, match="max_points=2: give at least 3"):
        EmbeddingPicture(max_points=2)
