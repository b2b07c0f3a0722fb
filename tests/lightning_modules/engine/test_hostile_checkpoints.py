"""A checkpoint from a stranger runs, reads, writes and imports nothing, whatever it names."""

import itertools
import os
import random
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hostile_checkpoints import ENCODINGS, MARK, Watch, gadgets, json_copy, places, put, victims
from text_checkpoints import language_model_of, translator_of

import trellis
from trellis.lightning_modules import cli
from trellis.lightning_modules.engine.checkpoint import read
from trellis.sequence.tokenizer import WordTokenizer

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
         "--trainer.accelerator=cpu"]  # fmt: skip
NODES = ["fit", "--model=NodeClassification", "--model.network=GCN", "--data=KarateClub",
         "--model.network.hidden_channels=4", "--model.lr_scheduler=StepLR",
         "--model.lr_scheduler.step_size=5", "--trainer.max_epochs=1"]  # fmt: skip
AGENT = ["fit", "--model=PPO", "--data=EnvironmentRollouts", "--data.num_envs=1",
         "--data.num_steps=8", "--data.total_steps=8", "--data.num_test_episodes=1",
         "--data.num_val_episodes=1"]  # fmt: skip
MODEL, DATA = "hyper_parameters", "datamodule_hyper_parameters"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with something to attack, and modules that nobody may import."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.delenv("TRELLIS_TRUST", raising=False)
        (folder / "hostile_module.py").write_text("raise SystemExit('imported')\n")
        gadget = {"class_path": "os.system", "init_args": {"command": f"touch {MARK}/new"}}
        (folder / "hostile_config").write_text(yaml.safe_dump(gadget))
        (folder / "sentences.txt").write_text("ab ba\n")
        victims(folder)
        (folder / "mine.ckpt").write_bytes(b"years of work")
        yield folder


@pytest.fixture(scope="module")
def bases(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Contents of harmless checkpoints, of an account that is not the reader's."""
    made = tmp_path_factory.mktemp("made")
    words = WordTokenizer(["ab ba"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(made / "stranger"))
        patch.chdir(made)
        paths = {
            "translator": translator_of(words, words, made),
            "text": language_model_of(words, made),
        }
        for name, command in (("nodes", NODES), ("agent", AGENT)):
            cli.main([*command, *QUIET, f"--trainer.run_name={name}"])
            paths[name] = str(made / "runs" / name / "0" / "checkpoints" / "last.ckpt")
    return {name: torch.load(path, weights_only=True) for name, path in paths.items()}


COMMANDS = {
    "load": ["nodes", "agent", "text", "translator"],
    "test": ["nodes", "agent"],
    "fit": ["nodes", "agent"],
    "init_from": ["nodes"],
    "predict": ["nodes"],
    "generate": ["text"],
    "translate": ["translator"],
    "play": ["agent"],
}


def words_of(command: str, path: Path) -> list[str]:
    few = [*QUIET, "--trainer.logger=false", "--trainer.fast_dev_run=true"]
    return {
        "test": ["test", str(path), *few],
        "fit": ["fit", "--ckpt_path", str(path), "--trainer.max_epochs=2", "--trainer.max_steps=3",
                *QUIET],
        "init_from": [*NODES, "--init_from", str(path), *few],
        "predict": ["predict", str(path), *QUIET],
        "generate": ["generate", str(path), "--max_new_tokens=2", "--prompt=ab"],
        "translate": ["translate", str(path), "sentences.txt", "--num_beams=1",
                      "--max_new_tokens=2"],
        "play": ["play", str(path), "--episodes=1"],
    }[command]  # fmt: skip


def attempt(command: str, path: Path, more: Sequence[str] = ()) -> str:
    """What a command answers: nothing, or its refusal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if command == "load":
                trellis.load(path)
            else:
                cli.main([*words_of(command, path), *more])
        except (ValueError, OSError) as error:
            return f"refused: {error}"
        except SystemExit as stop:
            return "refused" if stop.code == 2 else f"ended with {stop.code}"
    return ""


def listing(folder: Path) -> dict[str, bytes]:
    """The files of a folder; those of runs are not looked at."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"runs", "__pycache__"} & set(path.relative_to(folder).parts)
    }


class Range:
    """Where hostile checkpoints are tried.

    Args:
        home: working folder.
        capsys: of the test.
    """

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self.capsys, self.faults, self.tried = home, capsys, [], 0
        self.answers: list[str] = []
        self.path = home / "received" / "hostile.ckpt"
        self.path.parent.mkdir(exist_ok=True)

    def benign(self, command: str, content: dict[str, Any]) -> None:
        """Load what a harmless run loads, and make sure that it is one."""
        torch.save(content, self.path)
        assert attempt(command, self.path) == "", self.capsys.readouterr().err

    def shoot(
        self, command: str, content: dict[str, Any], label: str, more: Sequence[str] = ()
    ) -> None:
        """Try one checkpoint with one command."""
        torch.save(content, self.path)
        before, self.tried = listing(self.home), self.tried + 1
        self.capsys.readouterr()
        runs = self.home / "runs"
        with Watch.get().over(runs, Path(os.environ["XDG_CONFIG_HOME"])) as found:
            try:
                answer = attempt(command, self.path, more)
            except Exception as error:
                answer = f"raised {type(error).__name__}: {error}"
        self.answers.append(answer)
        err = self.capsys.readouterr().err
        faults = list(dict.fromkeys(found))
        after = listing(self.home)
        if after != before:
            changed = [n for n in {*before, *after} if before.get(n) != after.get(n)]
            faults.append(f"changed {changed}")
            for name in changed:  # the next attempt finds everything as it was
                if name in before:
                    (self.home / name).write_bytes(before[name])
                else:
                    (self.home / name).unlink()
        if "hostile_module" in sys.modules:
            faults.append("imported hostile_module")
        if answer.startswith(("raised", "ended")):
            faults.append(answer[:200])
        if "TRELLIS_TRACEBACK" in err or "Traceback" in err:
            faults.append(f"no refusal: {' '.join(err.split())[-200:]}")
        self.faults += [f"{command} {label}: {fault}" for fault in faults]


@pytest.fixture
def range_(home: Path, capsys: pytest.CaptureFixture[str]) -> Range:
    return Range(home, capsys)


def parameter_places(base: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Every argument of the two classes, those that the base leaves out included."""
    found = [(MODEL, *place) for place in places(base[MODEL])]
    found += [(DATA, *place) for place in places(base.get(DATA, {}))]
    for place in list(found):
        entry: Any = base
        for key in place:
            entry = entry[key]
        if isinstance(entry, dict) and "class_path" in entry:
            found.append((*place, "init_args", "added"))
    network = (MODEL, "network")
    return [
        *found, (MODEL, "network.class_path"), (MODEL, "network.init_args.activation"),
        (MODEL, "optimizer+"), (MODEL, "__path__"), (MODEL, "added"), (DATA, "added"),
        (DATA, "_class_path"), (DATA, "data_dir"), (DATA, "options"), (DATA, "tokenizer"),
        (*network, "init_args", "activation"), (*network, "init_args", "device"),
        (*network, "dict_kwargs"), (*network, "init_args", "activation.class_path"),
        (MODEL, "spec", "tokenizer"), (MODEL, "spec", "environment"), ("trellis", "spec"),
        ("trellis", "objective"), ("trellis", "data"), ("trellis", "unsaved"),
        ("trellis", "files"),
    ]  # fmt: skip


TRAINER = ("callbacks", "logger", "plugins", "profiler", "strategy", "default_root_dir",
           "run_name", "accelerator", "devices", "precision", "max_time", "model_registry",
           "max_epochs", "callbacks+", "logger.class_path", "fast_dev_run",
           "enable_checkpointing", "val_check_interval")  # fmt: skip


def run_places() -> list[tuple[Any, ...]]:
    """What only a resumed run looks at."""
    config = ("trellis_run", "config")
    found = [(*config, "trainer", name) for name in TRAINER]
    found += [(*config, "seed_everything"), (*config, "model"), (*config, "data"), config,
              (*config, "trainer"), (*config, "ckpt_path"), (*config, "config"),
              ("trellis_run", "signed"), ("trellis_run",)]  # fmt: skip
    found += [(key,) for key in ("callbacks", "loops", "optimizer_states", "lr_schedulers",
                                 "state_dict", "trellis_random_states", "hparams_name",
                                 "datamodule_hparams_name", "pytorch-lightning_version", "trellis",
                                 MODEL, DATA, "epoch", "global_step", "precision_plugin",
                                 "hparams_type", "datamodule_hparams_type", "hparams_builtin",
                                 "native_amp_scaling_state", "new")]  # fmt: skip
    return found


def plan(
    bases: dict[str, dict[str, Any]], trap: Path, number: int, seed: int
) -> Iterator[tuple[str, str, dict[str, Any], str]]:
    """Command, name of the base, content and label of so many hostile checkpoints."""
    draw = random.Random(seed)
    made = gadgets(trap)
    commands = itertools.cycle(COMMANDS)
    gadget_cycle = itertools.cycle(draw.sample(list(made), len(made)))
    encoding_cycle = itertools.cycle(draw.sample(list(ENCODINGS), len(ENCODINGS)))
    decks: dict[tuple[str, bool], list[tuple[Any, ...]]] = {}
    for _ in range(number):
        command = next(commands)
        base = draw.choice(COMMANDS[command])
        # Resuming alone looks at what a run left, so half of its files attack that.
        of_run = command == "fit" and draw.random() < 0.5
        deck = decks.setdefault((base, of_run), [])
        if not deck:
            deck += run_places() if of_run else parameter_places(bases[base])
            draw.shuffle(deck)
        place, gadget, encoding = deck.pop(), next(gadget_cycle), next(encoding_cycle)
        value = ENCODINGS[encoding](json_copy(made[gadget]))
        label = f"{base} {'.'.join(map(str, place))} = {gadget} as {encoding}"
        yield command, base, put(bases[base], place, value), label


@pytest.mark.parametrize(
    ("place", "value"),
    [
        # A parser takes a text for the name of a class, or of a file that describes one.
        ((MODEL, "optimizer", "init_args", "lr"), "hostile_module.Net"),
        ((MODEL, "optimizer", "init_args", "lr"), "hostile_config"),
        ((MODEL, "network"), "hostile_config"),
        ((MODEL, "spec"), "hostile_config"),
        # It splits names at dots, and completes a class from its arguments alone.
        ((MODEL, "network.class_path"), "hostile_module.Net"),
        ((MODEL, "network", "init_args", "hidden_channels.x"), 1),
        ((MODEL, "network"), {"init_args": {"hidden_channels": 3}}),
        ((MODEL, "optimizer+"), "hostile_module.Net"),
        ((MODEL, "__path__"), "hostile_config"),
    ],
)
def test_what_a_parser_would_resolve_is_refused_before(
    place: tuple[str, ...],
    value: Any,
    bases: dict[str, dict[str, Any]],
    home: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "hostile.ckpt"
    torch.save(put(bases["nodes"], place, value), path)
    with pytest.raises(ValueError, match="is refused"), Watch.get().over() as found:
        read(path)
    assert found == []


def test_no_part_of_a_checkpoint_runs_when_it_is_loaded(
    bases: dict[str, dict[str, Any]], range_: Range
) -> None:
    for name in COMMANDS["load"]:
        range_.benign("load", bases[name])
    for command, _, content, label in plan(bases, range_.home / MARK, 8 * 60, seed=0):
        if command == "load":
            range_.shoot(command, content, label)
    assert range_.tried == 60
    assert range_.faults == []


@pytest.mark.long
def test_no_command_runs_part_of_a_checkpoint(
    bases: dict[str, dict[str, Any]], range_: Range
) -> None:
    for command, names in COMMANDS.items():
        for name in names:
            range_.benign(command, bases[name])
    number = int(os.environ.get("TRELLIS_HOSTILE", "400"))
    for command, _, content, label in plan(bases, range_.home / MARK, number, seed=1):
        range_.shoot(command, content, label)
    assert range_.tried >= 300
    assert range_.faults == []


@pytest.mark.parametrize(
    ("command", "base", "place", "value"),
    [
        ("load", "nodes", (MODEL, "spec", "in_channels"), 10**13),
        ("load", "nodes", (MODEL, "network", "init_args", "hidden_channels"), 10**13),
        ("load", "text", (MODEL, "network", "init_args", "context"), 10**13),
        ("load", "translator", (MODEL, "spec", "source", "num_tokens"), 10**13),
        ("load", "nodes", ("state_dict", "added"), torch.zeros(1).expand(10**13)),
        ("test", "agent", (DATA, "num_test_episodes"), 10**13),
        ("fit", "agent", (DATA, "num_envs"), 10**13),
        ("fit", "agent", (DATA, "num_steps"), 10**13),
    ],
)
def test_a_size_that_the_file_does_not_hold_is_refused(
    command: str,
    base: str,
    place: tuple[str, ...],
    value: Any,
    bases: dict[str, dict[str, Any]],
    range_: Range,
) -> None:
    content = put(bases[base], place, value)
    if command == "fit":
        content = put(content, (DATA, "total_steps"), 10**15)
    range_.shoot(command, content, str(place))
    assert range_.faults == []
    # A run that its checkpoint says is over begins no rollout, of whatever size.
    assert base == "agent" or range_.answers[-1].startswith("refused")


def test_a_file_that_inflates_is_refused(bases: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.ckpt", tmp_path / "packed.ckpt"
    torch.save({**bases["nodes"], "more": torch.zeros(10**6)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(OSError, match="claims to hold more"):
        trellis.load(packed)


def test_files_that_callbacks_remember_are_left_alone(
    bases: dict[str, dict[str, Any]], range_: Range
) -> None:
    """Lightning's ``ModelCheckpoint`` deletes what it takes for an earlier checkpoint."""
    folder = range_.home / "received"
    mine = folder / "mine.txt"
    mine.write_text("years of work")
    for number, path in enumerate(("mine.ckpt", str(range_.home / "mine.ckpt"), str(mine),
                                   f"{MARK}/thesis.ckpt")):  # fmt: skip
        state = {
            "monitor": "train/loss", "best_model_score": torch.tensor(9.0),
            "best_model_path": path, "current_score": torch.tensor(9.0), "dirpath": str(folder),
            "best_k_models": {path: torch.tensor(9.0)}, "kth_best_model_path": path,
            "kth_value": torch.tensor(9.0), "last_model_path": path,
        }  # fmt: skip
        key = (
            "ModelCheckpoint{'monitor': 'train/loss', 'mode': 'min', 'every_n_train_steps': 0, "
            "'every_n_epochs': 1, 'train_time_interval': None}"
        )
        content = put(bases["nodes"], ("callbacks", key), state)
        typed = ["--trainer.callbacks=ModelCheckpoint", f"--trainer.callbacks.dirpath={folder}",
                 "--trainer.callbacks.monitor=train/loss"]  # fmt: skip
        range_.shoot("fit", content, f"callback {number}", typed)
    # The run's own checkpoints are written where the user said.
    faults = [f for f in range_.faults if "epoch=" not in f and "received" not in f]
    assert faults == []
    assert (range_.home / "mine.ckpt").read_bytes() == b"years of work"
    assert mine.read_text() == "years of work"
