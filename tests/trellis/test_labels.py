import torch

from trellis.labels import balanced_labels, one_hot


def test_one_hot_is_a_row_of_the_identity() -> None:
    y = torch.tensor([2, 0, 1, 1])
    assert one_hot(y, 4).equal(torch.eye(4)[y])


def test_classes_are_about_equally_frequent() -> None:
    assert balanced_labels(8, 3).bincount().tolist() == [3, 3, 2]
    assert balanced_labels(0, 3).tolist() == []
    assert balanced_labels(2, 3, "meta").device.type == "meta"
