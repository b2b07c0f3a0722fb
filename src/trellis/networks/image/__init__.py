"""Networks of images."""

from trellis.networks.image.cnn import LeNet5, SmallCNN
from trellis.networks.image.resnet import CifarResNet, ResNet
from trellis.networks.image.strip_rnn import StripRNN
from trellis.networks.image.vit import ViT

__all__ = ["CifarResNet", "LeNet5", "ResNet", "SmallCNN", "StripRNN", "ViT"]
