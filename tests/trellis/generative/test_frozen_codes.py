"""Codes are standardised, decoding undoes it, and the autoencoder stays as it is."""

import pytest
import torch
from torch import nn

from trellis.generative.frozen_codes import FrozenCodes
from trellis.networks.generative.autoencoder import MLPAutoencoder


@pytest.fixture
def codes() -> FrozenCodes:
    torch.manual_seed(0)
    return FrozenCodes(MLPAutoencoder((3, 4), latent_dim=5, hidden_channels=(8,)))


def test_codes_have_mean_0_and_variance_1_over_the_training_batches(codes: FrozenCodes) -> None:
    batches = torch.randn(20, 50, 3, 4) * 3 + 1
    codes.train()
    for x in batches:
        codes.encode(x)
    standardised = codes.eval().encode(batches.flatten(0, 1))
    torch.testing.assert_close(standardised.mean(0), torch.zeros(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(standardised.std(0), torch.ones(5), rtol=0.02, atol=0)


def test_decoding_undoes_the_scale(codes: FrozenCodes) -> None:
    x = torch.randn(50, 3, 4)
    codes.train().encode(x)
    codes.eval()
    reconstructed = codes.decode(codes.encode(x))
    torch.testing.assert_close(reconstructed, codes.autoencoder(x))


def test_the_autoencoder_does_not_learn_and_stays_in_evaluation_mode() -> None:
    noisy = MLPAutoencoder((6,), latent_dim=2)
    noisy.encoder.append(nn.Dropout(0.5))
    codes = FrozenCodes(noisy).train()
    assert codes.training
    assert not any(module.training for module in codes.autoencoder.modules())
    assert not any(p.requires_grad for p in codes.parameters())
    assert not codes.encode(torch.randn(4, 6).requires_grad_()).requires_grad


def test_what_has_no_codes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"autoencoder=Linear has no encode, decode, latent_dim"):
        FrozenCodes(nn.Linear(2, 2))
