"""A short run of each objective that ``trellis list objectives`` lists."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from learning_cases import (
    CASES,
    Case,
    ManyGraphs,
    Points,
    PooledGCN,
    Run,
    SmallGraph,
    adam,
    run,
    small_gru,
)
from token_cases import Rated, SpelledStreams, Streams
from translation_cases import Negatives
from word_cases import all_counts, contexts, cooccurrences

from trellis.datamodules.graph import EdgeSplit, KarateClub, NodeWalks
from trellis.datamodules.rl import EnvironmentReplay, EnvironmentRollouts
from trellis.datamodules.sequence import FactQuestions
from trellis.generative import Enumeration, ProbabilityFlow
from trellis.index import family_names
from trellis.lightning_modules.generative import (
    GAN,
    CycleGAN,
    Diffusion,
    EnergyModel,
    FlowMatching,
    Pix2Pix,
    SemiSupervised,
    VectorQuantization,
)
from trellis.lightning_modules.graph import (
    GraphRegression,
    GraphTasks,
    LinkPrediction,
    NodeRegression,
)
from trellis.lightning_modules.rl import A2C, DDPG, DQN, PPO, REINFORCE, SAC, TD3, TRPO
from trellis.lightning_modules.sequence import (
    CBOW,
    BidirectionalLM,
    CausalLM,
    CountingLM,
    GloVe,
    PMIFactorization,
    SentenceSimilarity,
    SkipGram,
    SpanAnswering,
)
from trellis.networks.generative import (
    RBM,
    VAE,
    VQVAE,
    MLPDenoiser,
    MLPDiscriminator,
    MLPGenerator,
    PatchDiscriminator,
    TranslationResNet,
    TranslationUNet,
)
from trellis.networks.graph import GCN, VGAE
from trellis.networks.rl import (
    ActorCriticNetwork,
    DeterministicPolicy,
    QNetwork,
    SquashedGaussianPolicy,
    StateActionValue,
)
from trellis.networks.sequence import (
    BERT,
    BertAnswering,
    ELMo,
    GloVeEmbedding,
    KneserNeyLM,
    SentenceEncoder,
    SkipGramEmbedding,
)
from trellis.networks.vector import MLP
from trellis.spec import NodeSpec, TensorSpec

small: dict[str, Any] = {"hidden_channels": (8,)}
_rollouts = partial(
    EnvironmentRollouts, num_envs=2, num_steps=16, total_steps=96, num_val_episodes=1
)
_replay = partial(
    EnvironmentReplay,
    num_envs=2,
    num_steps=4,
    num_updates=2,
    total_steps=64,
    learning_starts=32,
    capacity=200,
    batch_size=8,
    num_val_episodes=1,
)
_actor_critic = partial(ActorCriticNetwork, **small)
_critics = {
    "critic": partial(StateActionValue, **small),
    "optimizer": adam,
    "critic_optimizer": adam,
}
_policy = partial(DeterministicPolicy, **small)


class SmallRealGraph(SmallGraph):
    """``SmallGraph`` with a number for each node."""

    def __init__(self) -> None:
        super().__init__()
        self.data.y = self.data.x[:, :1] - self.data.x[:, 1:2]
        self.spec = NodeSpec(4, 1, targets="real")


class SmallPictures(Points):
    """``Points`` as pictures of 2x2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.x = self.x[:, :4].reshape(-1, 1, 2, 2)
        self.spec = TensorSpec(1, 3, (2, 2))


class Bits(Points):
    """``Points`` as zeros and ones."""

    def __init__(self) -> None:
        super().__init__()
        self.x = (self.x > 0).float()
        self.spec = TensorSpec(6, 3, values="binary")


# Weights begin at N(0, 0.02): steps of 0.01 would leave nothing of them.
_slow = partial(torch.optim.Adam, lr=0.001)
_patches = partial(PatchDiscriminator, channels=2, num_layers=1)

# Class -> its case.
OBJECTIVES: dict[str, Case] = {
    **{case.objective.func.__name__: case for case in CASES.values()},
    # Compiled recurrent layers draw other numbers for their dropout.
    "CausalLM": Case(
        partial(CausalLM, partial(small_gru, dropout=0.0), adam, carry_state=True),
        partial(Streams, steps=5),
    ),
    "SemiSupervised": Case(
        partial(
            SemiSupervised,
            partial(MLP, **small),
            partial(VAE, latent_dim=2, **small),
            adam,
            likelihood="gaussian",
        ),
        Points,
    ),
    "VectorQuantization": Case(
        partial(
            VectorQuantization,
            partial(VQVAE, num_codes=6, code_dim=3, channels=(4,), num_residuals=1),
            adam,
            likelihood="unit_gaussian",
        ),
        SmallPictures,
    ),
    "CountingLM": Case(
        partial(CountingLM, partial(KneserNeyLM, order=3), carry_state=True),
        partial(Streams, steps=5),
    ),
    "BidirectionalLM": Case(
        partial(
            BidirectionalLM, partial(ELMo, cutoffs=[5], hidden_size=8, character_channels=4), adam
        ),
        SpelledStreams,
    ),
    "SkipGram": Case(
        partial(SkipGram, partial(SkipGramEmbedding, embed_dim=8), adam),
        partial(NodeWalks, KarateClub, walk_length=6, window=2, batch_size=8),
    ),
    "CBOW": Case(partial(CBOW, partial(SkipGramEmbedding, embed_dim=8), adam), contexts),
    "PMIFactorization": Case(
        partial(
            PMIFactorization,
            partial(SkipGramEmbedding, embed_dim=4),
            partial(torch.optim.SGD, lr=0.5),
        ),
        all_counts,
    ),
    "GloVe": Case(partial(GloVe, partial(GloVeEmbedding, embed_dim=8), adam), cooccurrences),
    "SentenceSimilarity": Case(
        partial(
            SentenceSimilarity,
            partial(SentenceEncoder, encoder=partial(BERT, embed_dim=8, num_heads=2)),
            adam,
        ),
        Rated,
    ),
    "SpanAnswering": Case(
        partial(SpanAnswering, partial(BertAnswering, embed_dim=8, num_heads=2), adam),
        partial(FactQuestions, num_train=30, num_val=5, num_test=5, max_tokens=400),
    ),
    "GraphRegression": Case(
        partial(GraphRegression, PooledGCN, adam), partial(ManyGraphs, "real")
    ),
    "GraphTasks": Case(partial(GraphTasks, PooledGCN, adam), partial(ManyGraphs, "binary")),
    "GAN": Case(
        partial(
            GAN,
            partial(MLPGenerator, latent_dim=2, **small),
            partial(MLPDiscriminator, **small),
            adam,
            adam,
        ),
        Points,
    ),
    "Pix2Pix": Case(
        partial(
            Pix2Pix,
            partial(TranslationUNet, channels=2, num_levels=2, dropout=0.0),
            _patches,
            _slow,
            _slow,
        ),
        Negatives,
    ),
    "CycleGAN": Case(
        partial(
            CycleGAN,
            partial(TranslationResNet, channels=2, num_blocks=1),
            _patches,
            _slow,
            _slow,
            pool_size=10,
        ),
        partial(Negatives, paired=False),
    ),
    "FlowMatching": Case(
        partial(FlowMatching, partial(MLPDenoiser, **small), adam, likelihood_steps=2), Points
    ),
    "Diffusion": Case(
        partial(
            Diffusion,
            partial(MLPDenoiser, **small),
            adam,
            likelihood=partial(ProbabilityFlow, num_steps=2),
        ),
        Points,
    ),
    "EnergyModel": Case(
        partial(EnergyModel, partial(RBM, hidden_units=4), adam, partition=Enumeration), Bits
    ),
    "LinkPrediction": Case(
        partial(
            LinkPrediction,
            partial(VGAE, encoder=partial(GCN, hidden_channels=8, dropout=0.3), latent_dim=4),
            adam,
        ),
        partial(EdgeSplit, SmallGraph, 0.2, 0.2, steps_per_epoch=5),
    ),
    "NodeRegression": Case(
        partial(NodeRegression, partial(GCN, hidden_channels=8), adam), SmallRealGraph
    ),
    "A2C": Case(partial(A2C, _actor_critic, adam), partial(_rollouts, "CartPole-v1")),
    "PPO": Case(partial(PPO, _actor_critic, adam), partial(_rollouts, "CartPole-v1")),
    "TRPO": Case(partial(TRPO, _actor_critic, adam), partial(_rollouts, "CartPole-v1")),
    "REINFORCE": Case(
        partial(REINFORCE, optimizer=adam),
        partial(_rollouts, "CartPole-v1", num_steps=64, total_steps=384),
    ),
    "DQN": Case(partial(DQN, partial(QNetwork, **small), adam), partial(_replay, "CartPole-v1")),
    "DDPG": Case(partial(DDPG, _policy, **_critics), partial(_replay, "Pendulum-v1")),
    "TD3": Case(partial(TD3, _policy, **_critics), partial(_replay, "Pendulum-v1")),
    "SAC": Case(
        partial(SAC, partial(SquashedGaussianPolicy, **small), **_critics),
        partial(_replay, "Pendulum-v1"),
    ),
}


def listed_objectives() -> list[str]:
    """The classes that ``trellis list objectives`` lists."""
    rooms = ("engine", "callbacks", "commands")
    names = family_names("trellis.lightning_modules")
    return [n for n, path in names.items() if n[0].isupper() and path.split(".")[2] not in rooms]


def short_run(name: str, root: Path, **options: Any) -> Run:
    """Two epochs of an objective; an agent makes one pass over its data."""
    return run(OBJECTIVES[name], root, **{"max_epochs": 2, "accelerator": "cpu", **options})
