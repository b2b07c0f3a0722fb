"""The linear probe against scikit-learn, and what it refuses."""

import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from trellis.metrics import linear_probe


def test_it_is_the_logistic_regression_of_scikit_learn() -> None:
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    theirs = LogisticRegression(C=0.1, max_iter=1000).fit(x[::3], y[::3]).predict(x)
    ours = linear_probe(
        *(torch.from_numpy(each) for each in (x[::3], y[::3], x)), inverse_strength=0.1
    )
    assert ours.tolist() == theirs.tolist()


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="all 3 labels to learn from are 2; give two classes"):
        linear_probe(torch.randn(3, 2), torch.full((3,), 2), torch.randn(1, 2))
