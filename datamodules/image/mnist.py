"""Grey images of 28x28 pixels in ten classes: handwritten digits, and clothes."""

from torch import Tensor

from trellis.datamodules.image.idx import read_images
from trellis.datamodules.image.labelled_images import LabelledImages, Part

FILES = {
    "train-images-idx3-ubyte.gz": "sha256:"
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "sha256:"
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "sha256:"
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "sha256:"
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}


class MNIST(LabelledImages):
    """70,000 handwritten digits, 10 classes.

    Batch: ``(x, y)`` with ``x [B, 1, 28, 28]`` (or ``[B, 784]``) and labels ``y [B]``. Pixels
    are bytes in memory and are converted to floats batch by batch.

    ====== ===== ====== =======
    train  val   test   classes
    ====== ===== ====== =======
    55,000 5,000 10,000 10
    ====== ===== ====== =======

    Source: LeCun, Cortes and Burges 1998.
    """

    folder, files = "MNIST", FILES
    urls = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    )
    classes = tuple(str(digit) for digit in range(10))
    shape = (1, 28, 28)
    mean, std = (0.1307,), (0.3081,)

    def read(self, part: Part) -> tuple[Tensor, Tensor]:
        return read_images(self.raw, part)


class FashionMNIST(LabelledImages):
    """70,000 grey pictures of clothes, 10 classes, in the format of MNIST.

    Batch: ``(x, y)`` with ``x [B, 1, 28, 28]`` (or ``[B, 784]``) and labels ``y [B]``; splits as
    those of ``MNIST``. The files are also in Debian's package ``dataset-fashion-mnist``.

    Source: Xiao, Rasul and Vollgraf 2017.
    """

    folder, files = "FashionMNIST", FASHION_FILES
    urls = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",)
    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    shape = (1, 28, 28)
    mean, std = (0.2860,), (0.3530,)

    def read(self, part: Part) -> tuple[Tensor, Tensor]:
        return read_images(self.raw, part)
