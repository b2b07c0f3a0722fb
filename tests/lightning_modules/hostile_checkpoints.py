"""A grammar of hostile checkpoints, and a watch over what reading one of them does."""

import json
import os
import sys
import tracemalloc  # noqa: F401  pytest loads it to report an exception in a destructor
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

MARK = "hostile-mark"  # in every text that a gadget would run, and in every path it names
STARTS = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
          "os.spawn", "os.startfile", "pty.spawn", "socket.connect", "socket.bind",
          "webbrowser.open", "urllib.Request", "ctypes.dlopen", "marshal.loads")  # fmt: skip
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod",
           "os.chown", "os.truncate", "os.utime", "shutil.rmtree", "shutil.move",
           "shutil.copyfile", "shutil.unpack_archive")  # fmt: skip
# Of the standard library: what a gadget imports, and nothing here does.
TELLTALE = {"this", "antigravity", "turtle", "idlelib", "__hello__"}


class Watch:
    """What this process does that a harmless run would not, while it is armed.

    An audit hook can never be removed, so there is one for all tests.
    """

    _only: "Watch | None" = None

    def __init__(self) -> None:
        self.armed, self.found = False, []
        self.known: set[str] = set()
        self.may_write: tuple[str, ...] = ()
        sys.addaudithook(self._hook)

    @classmethod
    def get(cls) -> "Watch":
        """The watch of this process."""
        cls._only = cls._only or cls()
        return cls._only

    @contextmanager
    def over(self, *may_write: Path) -> Iterator[list[str]]:
        """Record into the list what happens in the block.

        Args:
            may_write: folders that harmless runs write to.
        """
        self.known = {name.partition(".")[0] for name in sys.modules} | sys.stdlib_module_names
        self.known -= TELLTALE
        self.found, self.may_write = [], tuple(str(path) for path in may_write)
        self.armed = True
        try:
            yield self.found
        finally:
            self.armed = False

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        self.armed = False  # what is asked for here is not part of the run
        try:
            if (fault := self._fault(event, args)) is not None:
                self.found.append(fault)
        finally:
            self.armed = True

    def _fault(self, event: str, args: tuple[Any, ...]) -> str | None:
        if event == "import":
            name = str(args[0])
            risky = name.startswith(("torch.utils.cpp_extension", "torch_geometric.datasets."))
            fresh = name.partition(".")[0] not in self.known or (risky and name not in sys.modules)
            return f"imports {name}" if fresh else None
        if event == "open":
            path, mode, flags = args
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or (
                isinstance(mode, str) and any(letter in mode for letter in "wax+")
            )
            trap = MARK in str(path)
            return f"opens {path}" if trap or (writes and not self._allowed(path)) else None
        if event.startswith(STARTS):
            return f"{event} {args!r}"[:200]
        if event in CHANGES:
            paths = [arg for arg in args if isinstance(arg, (str, bytes, os.PathLike))]
            outside = [path for path in paths if not self._allowed(path)]
            return f"{event} {outside}" if outside else None
        if event in ("compile", "exec"):
            source = args[0]
            text = source if isinstance(source, (str, bytes)) else getattr(source, "co_consts", "")
            return f"{event} {text!r}"[:200] if MARK in str(text) else None
        return None

    def _allowed(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        full = os.path.abspath(os.fsdecode(path))
        return full == os.devnull or full.startswith(self.may_write) or "__pycache__" in full


def victims(folder: Path) -> Path:
    """Files that a hostile checkpoint names; whoever opens, changes or runs one is caught."""
    trap = folder / MARK
    trap.mkdir()
    (trap / "hubconf.py").write_text("raise SystemExit('ran')\n")
    (trap / "script.py").write_text("raise SystemExit('ran')\n")
    (trap / "thesis.ckpt").write_bytes(b"years of work")
    (trap / "table.csv").write_text("a,b\n1,2\n")
    (trap / "config.yaml").write_text("class_path: os.system\ninit_args: {command: 'true'}\n")
    return trap


def gadgets(trap: Path) -> dict[str, Any]:
    """Things that run, read, write or import something, each as a mapping of its class."""
    t = str(trap)

    def call(path: str, /, **init_args: Any) -> dict[str, Any]:
        return {"class_path": path, "init_args": init_args}

    touch = f"touch {t}/new"
    found = [
        call("os.system", command=touch),
        call("posix.system", command=touch),
        call("subprocess.Popen", args=["touch", f"{t}/new"]),
        call("subprocess.check_output", args=["touch", f"{t}/new"]),
        call("builtins.eval", source=f"open('{t}/new', 'w')"),
        call("builtins.exec", source=f"open('{t}/new', 'w')"),
        call("builtins.open", file=f"{t}/new", mode="w"),
        call("importlib.import_module", name="hostile_module"),
        call("runpy.run_path", path_name=f"{t}/script.py"),
        call("shutil.rmtree", path=t),
        call("pathlib.Path.unlink", self=f"{t}/thesis.ckpt"),
        call("functools.partial", func="os.system"),
        call("operator.methodcaller", name="system"),
        call("this.d"),
        call("antigravity.geohash", latitude=1.0),
        call("torch.load", f=f"{t}/thesis.ckpt", weights_only=False),
        call("torch.save", obj=1, f=f"{t}/new"),
        call("torch.jit.load", f=f"{t}/thesis.ckpt"),
        call("torch.hub.load", repo_or_dir=t, model="x", source="local"),
        call("torch.hub.download_url_to_file", url="http://localhost/x", dst=f"{t}/new"),
        call("torch.utils.cpp_extension.load", name="x", sources=[f"{t}/script.py"]),
        call("torch.utils.collect_env.run", command=touch),
        call("torch.nn.Module.load_state_dict", state_dict={}),
        call("torch.nn.modules.module.warnings.warn", message=MARK),
        call("torch.nn.modules.module.torch.load", f=f"{t}/thesis.ckpt"),
        call("torch.nn.DataParallel", module=call("torch.nn.ReLU")),
        call("torch.nn.Transformer", custom_encoder="os.system"),
        call("torch.nn.Embedding", num_embeddings=10**13, embedding_dim=8),
        call("torch.distributed.run.main", args=[f"{t}/script.py"]),
        call("torch_geometric.datasets.Planetoid", root=t, name="Cora"),
        call("torch_geometric.datasets.TUDataset", root=t, name="MUTAG"),
        call("torch_geometric.nn.nlp.LLM", model_name=f"{t}/model"),
        call("torch_geometric.nn.MLP", channel_list=[4, 2], act="os.system"),
        call("torch_geometric.nn.GCN", in_channels=4, hidden_channels=4, num_layers=2,
             act=call("os.system", command=touch)),
        call("torch_geometric.data.download_url", url="http://localhost/x", folder=t),
        call("lightning.pytorch.callbacks.ModelCheckpoint", dirpath=f"{t}/new"),
        call("lightning.pytorch.loggers.CSVLogger", save_dir=f"{t}/new"),
        call("lightning.pytorch.cli.instantiate_module", module_class="os.system", config={}),
        call("lightning.pytorch.cli.LightningCLI", model_class="torch.nn.ReLU"),
        call("lightning.pytorch.cli.SaveConfigCallback", config_filename=f"{t}/new"),
        call("trellis.lightning_modules.cli.main", argv=["demo"]),
        call("trellis.lightning_modules.engine.trainer.Trainer", default_root_dir=f"{t}/new"),
        call("trellis.lightning_modules.commands.run.TrellisCLI", args=["fit"]),
        call("trellis.files.atomic_write", path=f"{t}/new"),
        call("trellis.datamodules.engine.downloads.fetch", url="http://localhost/x", path=t),
        call("trellis.datamodules.graph.tu_dataset.unpack", path=f"{t}/table.csv"),
        call("trellis.datamodules.graph.Planetoid", data_dir=t),
        call("trellis.datamodules.graph.TUDataset", data_dir=t),
        call("trellis.datamodules.graph.GraphFromFiles", edges=f"{t}/table.csv"),
        call("trellis.datamodules.sequence.ParallelText", train=[f"{t}/table.csv"] * 2),
        call("trellis.datamodules.sequence.ParallelCorpus", train=[f"{t}/table.csv"] * 2),
        call("gymnasium.make", id="hostile_module:Env-v0"),
        call("hostile_module.Net"),
        call("hostile_module"),
        call("jsonargparse.CLI", components="os.system"),
        call("yaml.unsafe_load", stream="!!python/object/apply:os.system [x]"),
        call("pickle.loads", data="x"),
    ]  # fmt: skip
    return {f"{number}-{each['class_path']}": each for number, each in enumerate(found)}


# How a gadget may be written: as a mapping, in text, deeper, in a list, or as names alone.
ENCODINGS: dict[str, Callable[[Any], Any]] = {
    "mapping": lambda g: g,
    "json": json.dumps,
    "yaml": lambda g: yaml.safe_dump(g),
    "name": lambda g: g["class_path"],
    "short name": lambda g: g["class_path"].rpartition(".")[2],
    "nested": lambda g: {"deeper": g},
    "nested twice": lambda g: {"class_path": "torch.nn.ReLU", "init_args": {"inplace": g}},
    "in network": lambda g: {"class_path": "trellis.networks.graph.GCN",
                             "init_args": {"activation": g}},
    "list": lambda g: [g],
    "json in a list": lambda g: [json.dumps(g)],
    "json in a mapping": lambda g: {"deeper": json.dumps(g)},
    "dict_kwargs": lambda g: {"class_path": g["class_path"], "dict_kwargs": g["init_args"]},
    "arguments beside": lambda g: {"class_path": g["class_path"], **g["init_args"]},
    "path in text": lambda g: {"class_path": json.dumps(g), "init_args": {}},
    "path is a mapping": lambda g: {"class_path": g},
    "environment": lambda g: "hostile_module:Env-v0",
    "yaml tag": lambda g: f"!!python/object/apply:{g['class_path']} [x]",
    "file": lambda g: f"{MARK}/config.yaml",
    "file without suffix": lambda g: "hostile_config",
    "colon": lambda g: g["class_path"].replace(".", ":"),
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested mappings and short lists, those that hold others included."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and len(value) <= 4:
        for number, item in enumerate(value):
            yield from places(item, (*path, number))


def put(content: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with one value replaced, or added."""
    copy = json_copy(content)
    entry: Any = copy
    for key in place[:-1]:
        if isinstance(entry, dict) and not isinstance(entry.get(key), (dict, list)):
            entry[key] = {}
        entry = entry[key]
    entry[place[-1]] = value
    return copy


def json_copy(value: Any) -> Any:
    """A copy of the containers; tensors and other leaves are shared."""
    if isinstance(value, dict):
        return {key: json_copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_copy(item) for item in value]
    return value
