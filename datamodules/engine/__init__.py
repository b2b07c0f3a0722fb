"""What every data module rests on: the base class, the loader, downloads."""

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader

__all__ = ["DataModule", "Loader"]
