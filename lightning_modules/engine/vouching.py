"""Which files a checkpoint may name: those that its user typed, now or in the run that wrote it.

A checkpoint keeps the paths of its data, so that ``trellis test --ckpt_path`` needs nothing else.
A stranger's may name any file of yours. So what is written here is signed with a key of the
account, and paths that carry no such signature are forgotten.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from trellis.files import TYPED_ONLY
from trellis.index import current_path
from trellis.lightning_modules.engine.rebuild import annotations, is_marked
from trellis.signature import arguments_of


def typed_only(cls: type, parameters: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``cls`` that name files, as far as they differ from its defaults.

    Those of other data that it is made of have the name of that argument before theirs.
    """
    hints, defaults = annotations(cls), arguments_of(cls)
    found = {
        name: value
        for name, value in parameters.items()
        if name in hints
        and is_marked(hints[name], TYPED_ONLY)
        and value is not None
        and value != defaults[name].default
    }
    for part, options in _parts(parameters).items():
        known = current_path(parameters[part]["class_path"]) or ""
        if known.startswith("trellis.datamodules."):
            module, _, name = known.rpartition(".")
            inner = typed_only(getattr(import_module(module), name), options)
            found |= {f"{part}.{name}": value for name, value in inner.items()}
    return found


def _parts(parameters: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Arguments of the classes of ours among the arguments, by the names of these."""
    return {
        name: value.get("init_args") or {}
        for name, value in parameters.items()
        if isinstance(value, Mapping) and isinstance(value.get("class_path"), str)
    }


def sign(content: Any) -> str:
    """Says that this account wrote ``content``, plain values; empty if it has no key."""
    key = _key()
    text = json.dumps(content, sort_keys=True, default=list).encode()
    return hmac.new(key, text, hashlib.sha256).hexdigest() if key else ""


def is_signed(content: Any, signed: Any) -> bool:
    """Whether ``signed`` is what ``sign`` says of ``content`` on this account."""
    own = sign(content)
    return bool(own) and isinstance(signed, str) and hmac.compare_digest(signed, own)


def signature(cls: type, parameters: dict[str, Any]) -> str:
    """Says that this account used these files; empty where there are none."""
    files = typed_only(cls, parameters)
    return sign(files) if files else ""


def forget_unsigned(cls: type, parameters: dict[str, Any], signed: Any, source: str) -> None:
    """Remove file arguments of ``cls`` that are not signed by this account, in place.

    Args:
        cls: a data module.
        parameters: its arguments.
        signed: what the checkpoint has for their signature.
        source: what the warning calls the checkpoint.
    """
    files = typed_only(cls, parameters)
    if not files or is_signed(files, signed):
        return
    for name, value in files.items():
        *parts, last = name.split(".")
        owner = parameters
        for part in parts:
            owner = owner[part]["init_args"]
        del owner[last]
        rank_zero_warn(
            f"{source} was written by another account, and its data.{name}={value!r} is left out: "
            f"if you mean it, give --data.{name} yourself"
        )


def _key() -> bytes:
    """The key of this account, made when first asked for; empty if it cannot be kept."""
    return _kept_key(os.environ.get("XDG_CONFIG_HOME") or "~/.config")


@cache  # a full-batch run may make a checkpoint every few milliseconds
def _kept_key(config: str) -> bytes:
    path = Path(config).expanduser() / "trellis" / "key"
    with suppress(OSError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another process was faster
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(secrets.token_bytes(32))
        return path.read_bytes()
    return b""
