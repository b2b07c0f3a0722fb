"""trellis: networks x objectives x data for graphs and sequences, on PyTorch Lightning.

The names below are imported on first use, so ``import trellis`` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis.lightning_modules.engine.checkpoint import load as load
    from trellis.lightning_modules.engine.trainer import Trainer as Trainer
    from trellis.lightning_modules.export.folder import export as export
    from trellis.lightning_modules.export.hub import from_pretrained as from_pretrained
    from trellis.lightning_modules.export.huggingface_hub_private import HubModel as HubModel

__version__ = "0.1.0"

_HOMES = {
    "HubModel": "trellis.lightning_modules.export.huggingface_hub_private",
    "export": "trellis.lightning_modules.export.folder",
    "from_pretrained": "trellis.lightning_modules.export.hub",
    "load": "trellis.lightning_modules.engine.checkpoint",
    "Trainer": "trellis.lightning_modules.engine.trainer",
}
__all__ = ["HubModel", "Trainer", "__version__", "export", "from_pretrained", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trellis' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
