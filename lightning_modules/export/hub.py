"""Objectives from a folder that was exported, or from the Hugging Face Hub, and back to it."""

from pathlib import Path
from typing import Any

from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.export.transformers_folder import is_transformers, read_transformers
from trellis.lightning_modules.export.weights import load_folder


def from_pretrained(
    source: str | Path, *, revision: str | None = None, **overrides: Any
) -> Objective:
    """The objective that ``trellis export`` wrote, in evaluation mode on the CPU.

    Or a GPT-2 or BERT of a folder that ``transformers`` wrote: see ``read_transformers``.

    What it names is built like what a checkpoint names: see ``trellis.load``.

    Args:
        source: the folder, or a repository of the Hugging Face Hub such as ``user/name``.
        revision: of the repository.
        overrides: constructor arguments that replace the saved ones, such as ``network=``.
    Raises:
        FileNotFoundError, OSError: there is no such folder, or a file of it is damaged.
        ImportError: the extra ``export`` is missing.
        ValueError: see ``trellis.load``.
    """
    if Path(source).is_dir():
        if is_transformers(source):
            if overrides:
                raise ValueError(f"{source} is of transformers, which knows no {[*overrides][0]}")
            return read_transformers(source)
        return load_folder(source, **overrides)
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise FileNotFoundError(f"there is no folder {source}, and it names no user/name")
    from trellis.lightning_modules.export.huggingface_hub_private import HubModel

    return HubModel.from_pretrained(str(source), revision=revision, **overrides).objective


def push_folder(folder: str | Path, repository: str) -> str:
    """Upload a folder that was exported, and return the address of the commit.

    Args:
        folder: see ``from_pretrained``.
        repository: such as ``user/name``; it is created where needed.
    Raises:
        ImportError: the extra ``export`` is missing.
        OSError: the Hub cannot be reached or refuses; says why.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        name = api.create_repo(repository, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=folder))
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise OSError(f"{repository}: {str(error).strip().splitlines()[0]}") from None
