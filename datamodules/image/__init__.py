"""Images."""

from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.mnist import MNIST

__all__ = ["ImageFolder", "MNIST"]
