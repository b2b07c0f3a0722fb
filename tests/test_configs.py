"""Every config trains, reloads and resumes; every config has a row in the ledger."""

from pathlib import Path

import pytest
import torch
from config_cases import CONFIGS, NAMES, anew, fit, parsed

import trellis
from trellis.lightning_modules.commands.ledger import ledger

# Siblings of another config, which runs in `make test`; these run in `make test-all`.
SIBLINGS = {
    "image/cnn_fashion.yaml",
    "image/convgru_digits.yaml",
    "image/resnet_digits.yaml",
    "sequence/cnn_mnist1d.yaml",
    "sequence/cnn_sst2.yaml",
    "sequence/mlp_mnist1d.yaml",
    "vector/ridge_diabetes.yaml",
    "generative/maf_mnist.yaml",
    "generative/maf_linear_posterior.yaml",
    "generative/pixelcnn_mnist.yaml",
    "generative/rbm_mnist.yaml",
    "generative/boltzmann_nltcs.yaml",
    "generative/dbn_nltcs.yaml",
    "generative/factors_wine.yaml",
    "generative/ica_breast_cancer.yaml",
    "graph/factors_cora.yaml",
    "sequence/tfidf_trec.yaml",
    "generative/diffusion_mnist.yaml",
    "generative/diffusion_moons.yaml",
    "generative/flow_matching_posterior.yaml",
    "generative/latent_diffusion_mnist.yaml",
    "generative/diffusion_digits_guided.yaml",
    "generative/flow_matching_8gaussians.yaml",
    "generative/flow_matching_checkerboard.yaml",
    "graph/gae_cora.yaml",
    "graph/graphsage_cora.yaml",
    "sequence/bert_trec.yaml",
    "sequence/cnn_trec.yaml",
    "generative/pixelcnn_patches.yaml",
    "generative/pix2pix_mnist.yaml",
    "generative/ppca_digits.yaml",
    "generative/made_dna.yaml",
    "generative/made_nltcs.yaml",
    "generative/realnvp_mnist.yaml",
    "generative/cvae_mnist.yaml",
    "generative/hvae_mnist.yaml",
    "generative/iwae_mnist.yaml",
    "generative/m1m2_mnist.yaml",
    "generative/m2_mnist.yaml",
    "generative/vae_conv_mnist.yaml",
    "generative/vae_flow_prior_mnist.yaml",
    "generative/vae_gaussian_prior_mnist.yaml",
    "generative/vae_iaf_mnist.yaml",
    "generative/vae_mnist_static.yaml",
    "generative/vae_vamp_prior_mnist.yaml",
    "generative/vqvae_mnist.yaml",
    "generative/wgan_gp_8gaussians.yaml",
    "graph/mlp_cora.yaml",
    "graph/gin_ptc.yaml",
    "graph/graph_transformer_mutag.yaml",
    "graph/gat_cora.yaml",
    "graph/vgae_cora_featureless.yaml",
    "graph/anonymous_walks_mutag.yaml",
    "graph/gat_cora_inductive.yaml",
    "generative/dcgan_mnist.yaml",
    "generative/cyclegan_mnist.yaml",
    "generative/cgan_mnist.yaml",
    "generative/lsgan_8gaussians.yaml",
    "generative/sngan_8gaussians.yaml",
    "generative/autoencoder_mnist.yaml",
    "generative/made_mnist.yaml",
    "rl/trpo_cartpole.yaml",
    "rl/td3_pendulum.yaml",
    "sequence/bert_news.yaml",
    "sequence/bert_conll2000.yaml",
    "sequence/gpt_corpus.yaml",
    "sequence/gpt_local_shakespeare.yaml",
    "sequence/gpt_linear_shakespeare.yaml",
    "sequence/gpt_muon_shakespeare.yaml",
    "sequence/skipgram_wikitext2.yaml",
    "graph/gcn_bace.yaml",
    "graph/gcn_esol.yaml",
    "graph/gine_esol.yaml",
    "graph/appnp_cora.yaml",
    "graph/vgae_cora.yaml",
    "graph/transe_umls.yaml",
    "graph/complex_umls.yaml",
    "graph/complex_wn18rr.yaml",
    "graph/cheb_cora.yaml",
    "graph/label_propagation_cora.yaml",
    "graph/sgc_cora.yaml",
    "graph/gcn_photo.yaml",
    "graph/gcn_minesweeper.yaml",
    "graph/mlp_minesweeper.yaml",
    "graph/sage_minesweeper.yaml",
    "graph/gcn_cora_tuned.yaml",
    "graph/ggnn_cora.yaml",
    "graph/gcnii_cora.yaml",
    "graph/sagpool_mutag.yaml",
    "graph/virtual_node_mutag.yaml",
    "graph/gin_mutag.yaml",
    "graph/node2vec_cora.yaml",
    "rl/ddpg_pendulum.yaml",
    "rl/ppo_acrobot.yaml",
    "sequence/elmo_wikitext2.yaml",
    "sequence/gru_multi30k.yaml",
    "sequence/lstm_conll2000.yaml",
    "sequence/gru_cmudict.yaml",
    "sequence/gru_multi30k_both.yaml",
    "sequence/lstm_shakespeare.yaml",
    "sequence/tcn_mnist1d.yaml",
    "sequence/tcn_shakespeare.yaml",
    "sequence/wavenet_shakespeare.yaml",
    "sequence/tfidf_sst2.yaml",
    "sequence/transformer_multi30k.yaml",
    "sequence/cbow_wikitext2.yaml",
    "sequence/skipgram_tree_wikitext2.yaml",
    "sequence/fasttext_wikitext2.yaml",
    "sequence/glove_wikitext2.yaml",
    "sequence/ppmi_wikitext2.yaml",
    "sequence/ngram_wikitext2.yaml",
    "sequence/lstm_wikitext2.yaml",
}


@pytest.mark.data
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=name, marks=pytest.mark.long if name in SIBLINGS else ())
        for path, name in zip(CONFIGS, NAMES, strict=True)
    ],
)
def test_config_trains_reloads_and_resumes(path: Path, tmp_path: Path, data_dir: Path) -> None:
    cli = parsed(path, tmp_path)
    weights = fit(cli, stop=2)
    last = cli.trainer.checkpoint_callback.last_model_path
    loaded = trellis.load(last)
    assert type(loaded) is type(cli.model)
    assert all(torch.equal(weights[k], v) for k, v in loaded.state_dict().items())

    straight = fit(anew(cli), stop=4)
    resumed = fit(anew(cli), stop=4, ckpt_path=last)
    assert all(torch.equal(straight[k], v) for k, v in resumed.items())
    moved = [k for k, v in weights.items() if not torch.equal(straight[k], v)]
    assert moved, "two more steps must change the weights, or the comparison shows nothing"


def test_siblings_are_configs() -> None:
    assert set(NAMES) >= SIBLINGS


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_config_says_what_it_shows_and_has_a_row(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert f"{path.parent.name}/{path.name}" in {row.config for row in ledger().values()}
