"""``trellis play``: episodes of a checkpoint's agent, as numbers or as a film."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trellis.lightning_modules.commands.checkpoint_parser import checkpoint_parser


def main(words: list[str]) -> None:
    """Play episodes and print their returns; film one of them where ``--video`` is given.

    Raises:
        ValueError: an objective that is no agent, no episodes, a film that cannot be written.
        ImportError: what renders the environment, or Pillow, is missing.
    """
    args = _parser().parse_args(words[1:])
    path = _check_video(args.video)
    # These imports take seconds; a wrong option is answered without them.
    from trellis.checks import at_least_one
    from trellis.lightning_modules.commands.text_models import load_on
    from trellis.lightning_modules.rl.agent import AgentObjective
    from trellis.rl.vector_environments import EVALUATION_SEEDS

    at_least_one("episodes", args.episodes)
    agent: Any = load_on(args.checkpoint, args.device)
    if not isinstance(agent, AgentObjective):
        raise ValueError(
            f"{args.checkpoint} holds a {type(agent).__name__}, which is no agent: give the "
            f"checkpoint of one, such as PPO"
        )
    options, wrappers = _environment_arguments(args.checkpoint)
    seed = EVALUATION_SEEDS["test"] if args.seed is None else args.seed
    if path is None:
        episodes = _play(agent, args.episodes, options, wrappers, seed, not args.sample)
    else:
        film: list[Any] = []
        options |= {"render_mode": "rgb_array"}
        episodes = _play(agent, 1, options, wrappers, seed, not args.sample, film)
        _write(film, path)
    _report(agent.spec.environment, episodes)
    if path is not None:
        print(f"film: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = checkpoint_parser("play", __doc__, "of an agent, such as PPO")
    add = parser.add_argument
    add("--episodes", type=int, default=10, help="each in an environment of its own (10)")
    add(
        "--seed",
        type=int,
        help="of environments and actions; by default that of trellis test",
    )
    add("--sample", action="store_true", help="sample actions instead of the most probable ones")
    add("--video", help="play a single episode and film it as a .gif")
    return parser


def _check_video(video: str | None) -> Path | None:
    if video is None:
        return None
    path = Path(video)
    if path.suffix != ".gif":
        raise ValueError(f"--video {video}: give a name that ends in .gif")
    if path.exists():
        raise ValueError(f"--video {video} exists: name another file, or move it")
    if not path.parent.is_dir():
        raise ValueError(f"--video {video}: there is no folder {path.parent}")
    if find_spec("PIL") is None:
        raise ImportError("--video writes with Pillow: pip install pillow", name="PIL")
    return path


def _environment_arguments(checkpoint: str) -> tuple[dict[str, Any], list[Any]]:
    """Options and wrappers of the environments that a checkpoint's agent was trained in."""
    from trellis.lightning_modules.engine.checkpoint import read
    from trellis.lightning_modules.engine.rebuild import rebuilt
    from trellis.lightning_modules.engine.registry import registered_class

    saved = read(checkpoint, weights=False).get("datamodule_hyper_parameters", {})
    options = dict(saved.get("options") or {})
    if not saved.get("wrappers"):
        return options, []
    cls = registered_class(saved["_class_path"], checkpoint)
    return options, rebuilt(cls, {"wrappers": saved["wrappers"]}, checkpoint)["wrappers"]


def _play(
    agent: Any,
    number: int,
    options: dict[str, Any],
    wrappers: list[Any],
    seed: int,
    deterministic: bool,
    film: list[Any] | None = None,
) -> Any:
    import torch

    from trellis.rl.vector_environments import make_environments, play

    try:
        environments = make_environments(agent.spec.environment, number, options, wrappers)
    except TypeError as error:
        if film is None:
            raise
        raise ValueError(f"{_NO_PICTURES}: {error}") from None

    def film_step() -> None:
        if film is not None:
            film.append(_picture(environments))

    torch.manual_seed(seed)  # of sampled actions
    try:
        return play(
            environments,
            agent.spec,
            lambda observations: agent.act(
                observations.to(agent.device), deterministic=deterministic
            ),
            seed,
            film_step,
        )
    finally:
        environments.close()


_NO_PICTURES = "--video: this environment renders no pictures (render_mode rgb_array)"


def _picture(environments: Any) -> Any:
    """The first environment, rendered in 256 colours: a film has hundreds of pictures."""
    from gymnasium.error import DependencyNotInstalled
    from PIL import Image

    try:
        pictures = environments.render()
    except DependencyNotInstalled as error:
        raise ImportError(f"--video: {error}") from None
    if not pictures or pictures[0] is None:
        raise ValueError(_NO_PICTURES)
    return Image.fromarray(pictures[0]).quantize()


def _write(film: list[Any], path: Path) -> None:
    """A GIF, 25 pictures a second."""
    film[0].save(path, save_all=True, append_images=film[1:], duration=40, loop=0)


def _report(environment: str, episodes: Any) -> None:
    returns, lengths = episodes.returns, episodes.lengths.float()
    std = f" +- {float(returns.std()):.4g}" if len(returns) > 1 else ""
    print(
        f"{environment}: return {float(returns.mean()):.4g}{std} "
        f"({len(returns)} episodes, {float(returns.min()):.4g} to {float(returns.max()):.4g}), "
        f"{float(lengths.mean()):.4g} steps each"
    )
