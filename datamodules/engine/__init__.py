"""The base of all data modules: the abstract class, the loader, downloads, checks."""

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.division import Division
from trellis.datamodules.engine.loader import Loader

__all__ = ["DataModule", "Division", "Loader"]
