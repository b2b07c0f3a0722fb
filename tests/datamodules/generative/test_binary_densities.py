"""Binary densities: published sizes, bad files."""

import gzip
from pathlib import Path

import pytest
import torch

from trellis.datamodules.generative.binary_densities import BinaryDensities

SIZES = {
    "nltcs": (16, 16_181, 2_157, 3_236),
    "plants": (69, 17_412, 2_321, 3_482),
    "dna": (180, 1_600, 400, 1_186),
    "mushrooms": (112, 2_000, 500, 5_624),
}


@pytest.mark.data
@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_the_published_ones(name: str, data_dir: str) -> None:
    data = BinaryDensities(name, data_dir, batch_size=50)
    data.prepare_data()
    data.setup()
    found = (data.spec.in_channels, *(len(x) for x in data.splits.values()))
    assert found == SIZES[name]
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (50, SIZES[name][0])
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert y.dtype == torch.long


@pytest.mark.parametrize(
    ("text", "problem"), [("0,1\n1,2\n", "0 and 1"), ("0,1\n1\n", "damaged"), ("a,b\n", "damaged")]
)
def test_a_broken_file_is_named(text: str, problem: str, tmp_path: Path) -> None:
    folder = tmp_path / "debd" / "nltcs"
    folder.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (folder / f"nltcs.{split}.data.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(OSError, match=rf"nltcs\.train\.data\.gz.*{problem}"):
        BinaryDensities("nltcs", tmp_path).setup()


def test_missing_files_and_unknown_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nltcs\.train\.data\.gz"):
        BinaryDensities("nltcs", tmp_path).prepare_data()
    with pytest.raises(ValueError, match=r"name='plant'.*plants"):
        BinaryDensities("plant")
