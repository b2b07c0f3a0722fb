"""``trellis play``: the returns it prints, the film it writes, and what it refuses."""

from functools import partial
from pathlib import Path

import environment_cases  # noqa: F401 - registers environments
import pytest
import torch
from learning_cases import CASES, Case, quiet_trainer, run
from text_checkpoints import failing

import trellis
from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules import cli
from trellis.lightning_modules.rl.ppo import PPO
from trellis.networks.rl.value import ActorCriticNetwork


def rollouts(environment: str = "TestFilm-v0", **options: object) -> EnvironmentRollouts:
    return EnvironmentRollouts(environment, 2, 8, 32, num_test_episodes=5, options=dict(options))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    objective = partial(PPO, network=partial(ActorCriticNetwork, hidden_channels=(4,)))
    data = partial(rollouts, length=5)
    return str(run(Case(objective, data), tmp_path_factory.mktemp("run")).last)


def test_returns_of_the_environment_as_it_was_trained(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["play", checkpoint, "--episodes", "3"])
    # Six steps: the length that the checkpoint tells, and one for the first episode.
    assert capsys.readouterr().out == (
        "TestFilm-v0: return 21 +- 0 (3 episodes, 21 to 21), 6 steps each\n"
    )


def test_returns_are_those_of_the_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = partial(rollouts, "CartPole-v1")
    done = run(Case(partial(PPO, optimizer=partial(torch.optim.Adam, lr=0.001)), data), tmp_path)
    (result,) = quiet_trainer(tmp_path).test(
        trellis.load(done.last), datamodule=data(), verbose=False
    )
    capsys.readouterr()

    def played(*words: str) -> str:
        cli.main(["play", str(done.last), "--episodes=5", *words])
        return capsys.readouterr().out

    assert f"return {result['test/return']:.4g} +- " in played()
    assert f"{result['test/episode_length']:.4g} steps each" in played()
    assert played("--seed=7") != played()
    assert played("--sample") == played("--sample") != played()


def test_a_film(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    path = tmp_path / "film.gif"
    cli.main(["play", checkpoint, "--video", str(path)])
    assert f"film: {path}" in capsys.readouterr().out
    with Image.open(path) as film:
        assert film.size == (12, 8)
        assert film.n_frames == 7  # before each of six steps, and the end
        shades = []
        for frame in range(film.n_frames):
            film.seek(frame)
            shades.append(film.convert("L").getpixel((0, 0)))
    assert shades == sorted(set(shades))


@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
def test_what_cannot_be_played(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "episodes=0: give at least 1" in failing(capsys, "play", checkpoint, "--episodes=0")
    assert "ends in .gif" in failing(capsys, "play", checkpoint, "--video=a.mp4")
    assert "no folder" in failing(capsys, "play", checkpoint, "--video=/nowhere/a.gif")
    (tmp_path / "a.gif").touch()
    taken = failing(capsys, "play", checkpoint, f"--video={tmp_path}/a.gif")
    assert "exists: name another file" in taken
    other = run(CASES["classification"], tmp_path, max_epochs=1).last
    assert "holds a Classification, which is no agent" in failing(capsys, "play", str(other))
    blind = run(Case(PPO, partial(rollouts, "TestGuess-v0")), tmp_path).last
    text = failing(capsys, "play", str(blind), f"--video={tmp_path}/b.gif")
    assert "renders no pictures" in text
