"""Vector quantisation against pythae and k-means."""

import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

from trellis.generative.quantizer import VectorQuantizer


def test_values_losses_and_gradients_are_those_of_pythae() -> None:
    vq = pytest.importorskip("pythae.models.vq_vae.vq_vae_utils")
    config = pytest.importorskip("pythae.models.vq_vae.vq_vae_config").VQVAEConfig(
        input_dim=(1, 4, 4), latent_dim=5, num_embeddings=7, commitment_loss_factor=0.25
    )
    config.embedding_dim = 5
    torch.manual_seed(0)
    theirs, ours = vq.Quantizer(config), VectorQuantizer(7, 5)
    nn.init.normal_(ours.codes.weight)
    theirs.embeddings.load_state_dict(ours.codes.state_dict())
    z, weights = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    found, gradients = [], []
    for quantizer, start in ((theirs, z.clone()), (ours, z.clone().flatten(0, 2))):
        start.requires_grad_()
        output = quantizer(start)
        if quantizer is theirs:
            values = output.quantized_vector.movedim(1, -1).flatten(0, 2)
            indices, loss = output.quantized_indices.flatten(), output.loss
        else:
            values, indices = output.values, output.indices
            loss = (output.codebook_loss + 0.25 * output.commitment_loss).mean() / 5
        (loss + (values * weights.flatten(0, 2)).sum()).backward()
        found.append((values, indices, loss))
        codes = theirs.embeddings if quantizer is theirs else ours.codes
        gradients.append((start.grad.flatten(), codes.weight.grad))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_codebook_learns_the_centres_of_k_means() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    z = centres[torch.arange(150) % 3] + 0.5 * torch.randn(150, 2, generator=generator)
    quantizer = VectorQuantizer(3, 2)
    quantizer.codes.weight.data.copy_(centres + 1)
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        quantizer(z).codebook_loss.mean().backward()
        optimizer.step()
    means = KMeans(3, init=centres.numpy(), n_init=1).fit(z.numpy())
    torch.testing.assert_close(
        quantizer.codes.weight.detach(),
        torch.from_numpy(means.cluster_centers_),
        atol=1e-3,
        rtol=0,
    )
    found = quantizer(z)
    assert found.codebook_loss.sum().item() == pytest.approx(means.inertia_, rel=1e-4)
    assert found.indices.tolist() == means.labels_.tolist()


def test_impossible_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="num_codes=0: give at least 1"):
        VectorQuantizer(0, 2)
    with pytest.raises(ValueError, match="code_dim=0"):
        VectorQuantizer(2, 0)
    with pytest.raises(ValueError, match=r"x \[4, 3\] does not fit VectorQuantizer"):
        VectorQuantizer(2, 5)(torch.zeros(4, 3))
