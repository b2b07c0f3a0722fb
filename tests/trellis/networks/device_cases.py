"""A tiny instance of each network that ``trellis list networks`` lists, with inputs for it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent

from trellis.generative import FlowPosterior, FlowPrior, VampPrior
from trellis.generative.transform import Permutation
from trellis.index import family_names
from trellis.networks import generative, graph, image, rl, sequence, vector
from trellis.networks.generative import Latents
from trellis.rl.distribution import SquashedGaussian
from trellis.sequence import KernelAttention, LearnedValue
from trellis.sequence.contextual_words import ContextualWords

# Public names of the rooms of networks that are none.
NO_NETWORKS = {"Latents": "what a VAE returns", "DiscreteCodes": "what a VQVAE returns"}

_BITS = (torch.arange(2 * 64) % 3 == 0).float()
_EDGES = torch.tensor([[0, 1, 2, 3, 0], [1, 0, 3, 2, 2]])
_PAIRS = torch.tensor([[0, 1, 3], [1, 2, 0]])
_TOKENS = torch.tensor([[4, 5, 6, 7], [7, 3, 0, 0]])
_LETTERS = (torch.arange(40).view(2, 4, 5) * (_TOKENS != 0).unsqueeze(2)) % 9
_LABELS = torch.tensor([0, 2])


def _pixels(*shape: int) -> Tensor:
    return torch.linspace(0, 1, 2 * int(torch.tensor(shape).prod())).view(2, *shape)


def _network(kind: Any, *sizes: Any, **options: Any) -> Callable[[], nn.Module]:
    return partial(kind, *sizes, **options)


def _counted(kind: Any) -> nn.Module:
    network = kind(9, order=3)
    network.count(_TOKENS)
    network.counts.levels()  # merging what waits is no part of a graph
    return network


def _counted_words() -> nn.Module:
    network = sequence.BagOfWords(9, 3, pad_id=0)
    network.count(_TOKENS)
    nn.init.normal_(network.output.weight)
    return network


_x, _nodes, _bonds = _pixels(5), (_pixels(10).view(4, 5), _EDGES), _pixels(5).view(5, 2)
_tiny = {"embed_dim": 8, "num_heads": 2, "num_layers": 1}
_bert = {"pad_id": 0, **_tiny}
_rnn = {"embed_dim": 4, "hidden_size": 4}
_letters = {"hidden_size": 4, "num_layers": 2, "character_channels": 3}
_low_high = ((-1.0, -2.0), (1.0, 2.0))
_question = (torch.tensor([0, 3]), torch.tensor([1, 0]), torch.tensor([1, 2, 0]))
_density = {"hidden_channels": (8,)}
_image = {"num_levels": 2, "hidden_channels": 4}

# Name, or "name/variant" -> how to build it, inputs.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "TableMLP": (_network(vector.TableMLP, 5, 3, one_hot=((1, 2),), hidden_channels=(4,)), (_x,)),
    "MLP": (_network(vector.MLP, 5, 3, hidden_channels=(4,), dropout=0.1, batch_norm=True), (_x,)),
    **{
        name: (_network(getattr(graph, name), 4, 2, embed_dim=3), _question)
        for name in ("DistMult", "ComplEx", "TransE")
    },
    "RGCN": (
        _network(graph.RGCN, 4, 2, embed_dim=3, num_layers=2),
        (*_question[:2], _EDGES, torch.arange(5) % 2, _question[2]),
    ),
    "LeNet5": (_network(image.LeNet5, 1, 3), (_pixels(1, 28, 28),)),
    "SmallCNN": (_network(image.SmallCNN, 1, 3), (_pixels(1, 8, 8),)),
    "ResNet": (_network(image.ResNet, 3, 3), (_pixels(3, 32, 32),)),
    "CifarResNet": (_network(image.CifarResNet, 3, 3), (_pixels(3, 8, 8),)),
    "StripRNN": (_network(image.StripRNN, 1, 3, image_size=8), (_pixels(1, 8, 8),)),
    "ViT": (
        _network(
            image.ViT, 1, 3, image_size=8, patch_size=4, embed_dim=8, num_heads=2, num_layers=1
        ),
        (_pixels(1, 8, 8),),
    ),
    **{
        name: (_network(getattr(graph, name), 5, 3, hidden_channels=4), _nodes)
        for name in (
            "APPNP",
            "ChebNet",
            "ClassicGNN",
            "GAT",
            "GCN",
            "GCNII",
            "GIN",
            "GatedGraphNet",
            "GraphSAGE",
            "NodeMLP",
            "ResidualGNN",
        )
    },
    "GINE": (_network(graph.GINE, 5, 3, edge_channels=2, hidden_channels=4), (*_nodes, _bonds)),
    "GraphNetwork/GINE": (
        _network(graph.GraphNetwork, 5, 3, edge_channels=2, encoder=graph.GINE, hidden_channels=4),
        (*_nodes, torch.tensor([0, 0, 1, 1]), 2, _bonds),
    ),
    "SGC": (_network(graph.SGC, 5, 3), _nodes),
    "LabelPropagation": (_network(graph.LabelPropagation, 5, 5), _nodes),
    **{
        name: (
            _network(getattr(graph, name), 5, 3, hidden_channels=4),
            (*_nodes, torch.tensor([0, 0, 1, 1]), 2),
        )
        for name in ("GraphTransformer", "SAGPoolNetwork")
    },
    **{
        f"GraphNetwork/{readout}": (
            _network(graph.GraphNetwork, 5, 3, hidden_channels=4, readout=readout, jump=jump),
            (*_nodes, torch.tensor([0, 0, 1, 1]), 2),
        )
        for readout, jump in (
            ("sum", "all"),
            ("mean", "last"),
            ("max", "last"),
            ("virtual_node", "last"),
        )
    },
    **{
        f"{name}/{decoder}": (
            _network(getattr(graph, name), 5, decoder=getattr(graph, decoder), latent_dim=3),
            (*_nodes, _PAIRS),
        )
        for name in ("GAE", "VGAE")
        for decoder in ("InnerProductDecoder", "BilinearDecoder", "MLPDecoder")
    },
    **{
        f"OverlapScore/{score}": (
            _network(graph.OverlapScore, 5, score=score),
            (*_nodes, _PAIRS),
        )
        for score in ("adamic_adar", "katz")
    },
    **{
        decoder: (_network(getattr(graph, decoder), 5), (_nodes[0], _PAIRS))
        for decoder in ("InnerProductDecoder", "BilinearDecoder", "MLPDecoder")
    },
    "LayerWise": (_network(graph.LayerWise, 5, 3, batch_size=8), _nodes),
    "WeisfeilerLehman": (
        _network(graph.WeisfeilerLehman, 5, 3, num_buckets=8),
        (*_nodes, torch.tensor([0, 0, 1, 1]), 2),
    ),
    "BERT": (_network(sequence.BERT, 9, **_bert), (_TOKENS, _TOKENS % 2)),
    "SentenceEncoder": (
        _network(sequence.SentenceEncoder, 9, pad_id=0, encoder=partial(sequence.BERT, **_tiny)),
        (_TOKENS,),
    ),
    "BertAnswering": (_network(sequence.BertAnswering, 9, **_bert), (_TOKENS, _TOKENS % 2)),
    "BertClassifier": (_network(sequence.BertClassifier, 9, 3, **_bert), (_TOKENS,)),
    "BertTagger": (_network(sequence.BertTagger, 9, 3, **_bert), (_TOKENS,)),
    "BertPretraining": (_network(sequence.BertPretraining, 9, **_bert), (_TOKENS, _TOKENS % 2)),
    **{
        f"GPT/{positions}": (
            _network(sequence.GPT, 9, embed_dim=8, num_heads=2, num_layers=2, positions=positions),
            (_TOKENS,),
        )
        for positions in ("learned", "rotary", "sinusoidal")
    },
    **{
        f"{name}/{cell}": (
            _network(getattr(sequence, name), 9, cell=cell, **sizes, **_rnn),
            inputs,
        )
        for cell in ("elman", "lstm", "gru")
        for name, sizes, inputs in (
            ("RecurrentLM", {}, (_TOKENS,)),
            ("RecurrentClassifier", {"out_channels": 3, "pad_id": 0}, (_TOKENS,)),
            ("RecurrentTagger", {"out_channels": 3, "pad_id": 0}, (_TOKENS,)),
        )
    },
    "AdaptiveLM": (
        _network(sequence.AdaptiveLM, 9, cutoffs=[3, 6], hidden_size=8, num_layers=2),
        (_TOKENS,),
    ),
    "CharacterTagger": (
        _network(
            sequence.CharacterTagger, 9, 3, pad_id=0, context=partial(ContextualWords, **_letters)
        ),
        (_TOKENS, _LETTERS),
    ),
    "ELMo": (_network(sequence.ELMo, 9, cutoffs=[3, 6], **_letters), (_LETTERS,)),
    **{
        kind.__name__: (partial(_counted, kind), (_TOKENS,))
        for kind in (sequence.KneserNeyLM, sequence.AddKLM)
    },
    "SkipGramEmbedding": (
        _network(sequence.SkipGramEmbedding, 9, embed_dim=4),
        (_TOKENS[0], _TOKENS.t()),
    ),
    "BagOfWords": (_counted_words, (_TOKENS,)),
    "SubwordEmbedding": (
        _network(sequence.SubwordEmbedding, 9, words=[*"abcdefgh", "cat"], num_buckets=7),
        (_TOKENS[0], _TOKENS.t()),
    ),
    "GloVeEmbedding": (
        _network(sequence.GloVeEmbedding, 9, embed_dim=4),
        (_TOKENS[0], _TOKENS.t()),
    ),
    "SentenceCNN": (
        _network(sequence.SentenceCNN, 9, 3, pad_id=0, embed_dim=4, channels=2),
        (_TOKENS,),
    ),
    "SignalCNN": (_network(sequence.SignalCNN, 2, 3, length=8), (_pixels(2, 8),)),
    "SignalTCN": (
        _network(sequence.SignalTCN, 2, 3, length=8, channels=4, num_layers=2),
        (_pixels(2, 8),),
    ),
    "TCN": (_network(sequence.TCN, 9, embed_dim=4, channels=5, num_layers=2), (_TOKENS,)),
    "WaveNet": (
        _network(sequence.WaveNet, 9, channels=4, skip_channels=5, num_layers=2),
        (_TOKENS,),
    ),
    "SignalRNN": (_network(sequence.SignalRNN, 2, 3, length=8), (_pixels(2, 8),)),
    **{
        f"RecurrentSeq2Seq/{cell}-{attend}": (
            _network(
                sequence.RecurrentSeq2Seq, 9, 9, source_pad_id=0, cell=cell, attend=attend, **_rnn
            ),
            (_TOKENS, _TOKENS),
        )
        for cell, attend in (("gru", "before"), ("lstm", "after"))
    },
    "RecurrentSeq2Seq/gru-backward": (
        _network(
            sequence.RecurrentSeq2Seq,
            9,
            9,
            source_pad_id=0,
            bidirectional="backward",
            attend="after",
            attention=partial(LearnedValue, attention=KernelAttention),
            **_rnn,
        ),
        (_TOKENS, _TOKENS),
    ),
    "TransformerSeq2Seq": (
        _network(
            sequence.TransformerSeq2Seq,
            9,
            9,
            source_pad_id=0,
            target_pad_id=0,
            embed_dim=8,
            num_heads=2,
            num_layers=1,
            feedforward_dim=8,
        ),
        (_TOKENS, _TOKENS),
    ),
    "ConvolutionalAutoencoder": (
        _network(generative.ConvolutionalAutoencoder, (1, 8, 8), channels=(4,)),
        (_pixels(1, 8, 8),),
    ),
    "MLPAutoencoder": (_network(generative.MLPAutoencoder, (5,), hidden_channels=(4,)), (_x,)),
    "Flow": (lambda: generative.Flow((5,), Permutation(torch.arange(5))), (_x,)),
    **{
        name: (_network(getattr(generative, name), (5,), 3, **_density), (_x, _LABELS))
        for name in ("IAF", "MAF", "NSF", "NICE", "CouplingNSF", "RealNVP")
    },
    "NSF/context": (
        _network(generative.NSF, (5,), context_features=2, **_density),
        (_x, _pixels(2)),
    ),
    "Glow": (_network(generative.Glow, (1, 8, 8), num_steps=2, **_image), (_pixels(1, 8, 8),)),
    "RealNVPImage": (_network(generative.RealNVPImage, (1, 8, 8), **_image), (_pixels(1, 8, 8),)),
    "MADE": (_network(generative.MADE, (16,), 3, **_density), (_BITS[:32].view(2, 16), _LABELS)),
    "PixelCNN": (
        _network(generative.PixelCNN, (1, 8, 8), 3, channels=4, num_layers=1),
        (_BITS.view(2, 1, 8, 8), _LABELS),
    ),
    "PixelCNN/mixtures": (
        _network(
            generative.PixelCNN, (3, 4, 4), num_levels=2, num_mixtures=2, channels=4, num_layers=1
        ),
        (_BITS[:96].view(2, 3, 4, 4),),
    ),
    "DCGANDiscriminator": (
        _network(generative.DCGANDiscriminator, (1, 8, 8), 3, channels=4),
        (_pixels(1, 8, 8), _LABELS),
    ),
    "DCGANGenerator": (
        _network(generative.DCGANGenerator, (1, 8, 8), 3, latent_dim=5, channels=4),
        (_x, _LABELS),
    ),
    "MLPDiscriminator": (
        _network(generative.MLPDiscriminator, (5,), 3, hidden_channels=(4,), spectral_norm=True),
        (_x, _LABELS),
    ),
    "UNet": (
        _network(generative.UNet, (1, 8, 8), 3, channels=8, num_heads=2),
        (_pixels(1, 8, 8), torch.tensor([0.1, 0.9]), torch.tensor([0, 2])),
    ),
    "TranslationUNet": (
        _network(generative.TranslationUNet, 1, 2, channels=4, num_levels=2),
        (_pixels(1, 8, 8),),
    ),
    "TranslationResNet": (
        _network(generative.TranslationResNet, 1, 2, channels=4, num_blocks=1),
        (_pixels(1, 8, 8),),
    ),
    "PatchDiscriminator": (
        _network(generative.PatchDiscriminator, 2, channels=4, num_layers=1),
        (_pixels(2, 8, 8),),
    ),
    "RBM": (_network(generative.RBM, (5,), hidden_units=3), (_pixels(5).round(),)),
    "DeepBeliefNet": (
        _network(generative.DeepBeliefNet, (5,), hidden_units=(4, 3)),
        (_x.round(),),
    ),
    "GaussianRBM": (_network(generative.GaussianRBM, (5,), hidden_units=3), (_x,)),
    "VisibleBoltzmann": (_network(generative.VisibleBoltzmann, (5,)), (_x.round(),)),
    "FactorAnalysis": (_network(generative.FactorAnalysis, (5,), latent_dim=2), (_x,)),
    "ICA": (_network(generative.ICA, (5,)), (_x,)),
    "SparseCoding": (_network(generative.SparseCoding, (5,), num_atoms=7, num_steps=4), (_x,)),
    "MLPDenoiser": (
        _network(generative.MLPDenoiser, (5,), 3, hidden_channels=(4,)),
        (_pixels(5), torch.tensor([0.1, 0.9]), torch.tensor([0, 2])),
    ),
    "MLPGenerator": (
        _network(generative.MLPGenerator, (5,), 3, latent_dim=5, hidden_channels=(4,)),
        (_x, _LABELS),
    ),
    "HierarchicalVAE": (
        _network(generative.HierarchicalVAE, (5,), 1, num_classes=3, latent_dim=2),
        (_x, _LABELS),
    ),
    "VAE": (
        _network(generative.VAE, (5,), 2, num_classes=3, latent_dim=2, hidden_channels=(4,)),
        (_x, _LABELS),
    ),
    **{
        f"VAE/{name}": (
            _network(generative.VAE, (5,), 2, latent_dim=2, hidden_channels=(4,), **parts),
            (_x,),
        )
        for name, parts in {
            "flow_prior": {
                "prior": partial(FlowPrior, flow=partial(generative.RealNVP, **_density))
            },
            "vamp_prior": {"prior": partial(VampPrior, num_components=3)},
            "flow_posterior": {
                "posterior": partial(FlowPosterior, flow=partial(generative.IAF, **_density))
            },
        }.items()
    },
    "VQVAE": (
        _network(generative.VQVAE, (1, 8, 8), 1, num_codes=6, code_dim=3, channels=(4, 4)),
        (_pixels(1, 8, 8),),
    ),
    "ConvolutionalVAE": (
        _network(generative.ConvolutionalVAE, (1, 8, 8), 1, latent_dim=2, channels=(4,)),
        (_pixels(1, 8, 8),),
    ),
    "ObservationEncoder": (_network(rl.ObservationEncoder, (5,)), (_x,)),
    "ObservationEncoder/state": (
        _network(rl.ObservationEncoder, (), num_observations=3),
        (_LABELS,),
    ),
    "OneHot": (_network(rl.OneHot, 3), (_LABELS,)),
    "PixelEncoder": (_network(rl.PixelEncoder, 1), (_pixels(1, 36, 36),)),
    "CategoricalHead": (_network(rl.CategoricalHead, 5, 3), (_x,)),
    "GaussianHead": (_network(rl.GaussianHead, 5, 3), (_x,)),
    "CategoricalPolicy": (_network(rl.CategoricalPolicy, (5,), 3), (_x,)),
    "GaussianPolicy": (_network(rl.GaussianPolicy, (5,), 3), (_x,)),
    "DeterministicPolicy": (_network(rl.DeterministicPolicy, (5,), *_low_high), (_x,)),
    "SquashedGaussianPolicy": (_network(rl.SquashedGaussianPolicy, (5,), *_low_high), (_x,)),
    "ActorCriticNetwork": (_network(rl.ActorCriticNetwork, (5,), 3), (_x,)),
    "QNetwork": (_network(rl.QNetwork, (5,), 3, dueling=True), (_x,)),
    "StateActionValue": (_network(rl.StateActionValue, (5,), 2), (_x, _pixels(2))),
    "Value": (_network(rl.Value, (5,)), (_x,)),
}


def listed_networks() -> list[str]:
    """The classes that ``trellis list networks`` lists, without those that are no networks."""
    names = family_names("trellis.networks")
    return [name for name in names if name[0].isupper() and name not in NO_NETWORKS]


class Tensors(nn.Module):
    """A network whose output is tensors alone, as graphs of torch return them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        return as_tensors(self.network(*inputs))


def as_tensors(output: Any) -> Any:
    """The tensors in what a network returns."""
    if isinstance(output, Categorical):
        return output.logits
    if isinstance(output, Independent):
        return output.base_dist.loc, output.base_dist.scale
    if isinstance(output, SquashedGaussian):
        return output.loc, output.log_std, *output.rsample_with_log_prob()
    if isinstance(output, Latents):
        return output.parameters, output.log_prior(), output.log_posterior(), output.kl
    if isinstance(output, (tuple, list)):
        return tuple(as_tensors(part) for part in output)
    return output
