"""Images."""

from trellis.datamodules.image.cifar10 import CIFAR10
from trellis.datamodules.image.image_folder import ImageFolder
from trellis.datamodules.image.image_pairs import ImagePairs
from trellis.datamodules.image.mnist import MNIST, FashionMNIST
from trellis.datamodules.image.photograph_patches import PhotographPatches

__all__ = ["CIFAR10", "FashionMNIST", "ImageFolder", "ImagePairs", "MNIST", "PhotographPatches"]
