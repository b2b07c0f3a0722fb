import pytest
import torch

from trellis.generative.conditioning import (
    Condition,
    append_context,
    one_hot_labels,
    real_context,
)


def test_a_context_is_the_same_at_every_pixel() -> None:
    x, context = torch.randn(2, 3, 4, 5), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = append_context(x, context)
    assert found[:, :3].equal(x)
    for example in range(2):
        for channel in range(2):
            assert (found[example, 3 + channel] == context[example, channel]).all()
    assert append_context(x, None) is x
    assert append_context(x[:, :, 0, 0], context).equal(found[:, :, 0, 0])


def test_labels_are_one_hot_for_conditional_networks_alone() -> None:
    y = torch.tensor([2, 0])
    assert one_hot_labels(y, 3, "Net").tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot_labels(None, 0, "Net") is None
    with pytest.raises(ValueError, match=r"Net\(num_classes=3\) is conditional: give labels"):
        one_hot_labels(None, 3, "Net")
    with pytest.raises(ValueError, match="label 2 is out of range"):
        one_hot_labels(y, 2, "Net")


def test_real_numbers_are_a_context_as_they_are() -> None:
    y = torch.randn(3, 2)
    assert real_context(y, 2, "Net") is y
    assert real_context(y[:, 0], 1, "Net").equal(y[:, :1])
    for wrong in (y[:, :1], y[:, 0], y[None], y.long()):
        with pytest.raises(ValueError, match=r"does not fit Net\(context_features=2\): give real"):
            real_context(wrong, 2, "Net")
    with pytest.raises(ValueError, match=r"Net\(context_features=2\) is conditional: give real"):
        real_context(None, 2, "Net")


@pytest.mark.parametrize("embed_dim", [0, 2])
def test_labels_are_appended_as_vectors_or_embeddings(embed_dim: int) -> None:
    torch.manual_seed(0)
    condition, y = Condition("Net", 3, embed_dim), torch.tensor([2, 0])
    x = torch.randn(2, 4, dtype=torch.float64)
    found = condition(x, y)
    assert found.dtype == torch.float64
    assert found[:, :4].equal(x)
    table = torch.eye(3) if condition.embedding is None else condition.embedding.weight
    assert condition.width == table.size(1)
    assert found[:, 4:].equal(table[y].double())
    with pytest.raises(ValueError, match=r"y \[1\]: give one label for each of 2 examples"):
        condition(x, y[:1])


def test_without_classes_nothing_is_appended() -> None:
    x = torch.randn(2, 4)
    assert Condition("Net")(x, None) is x
    with pytest.raises(ValueError, match="num_classes=-1: give at least 0"):
        Condition("Net", -1)
