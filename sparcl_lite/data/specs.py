"""What is known of each data set without any pixel: shape, classes, sizes and normalisation.

Also the augmentation that suits it. The pixels are the business of `sources`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from sparcl_lite.registry import DATASETS

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class DatasetSpec:
    """Facts of one data set.

    Attributes
    ----------
    name : what `sources.load` takes
    channels, size : images are ``(channels, size, size)``, or ``(channels, *size)`` where they are not square
    classes : names of the classes, in the order of their labels
    tasks : number of tasks that the classes are split into by default
    train_images, test_images : images in each split
    mean, std : of the training pixels per channel, scaled to [0, 1]
    padding, flip : augmentation, a random crop after so many zero pixels and a horizontal flip
    sums : names and MD5 of the official binary files of equal size that hold the images, the test images last
    """

    name: str
    channels: int
    size: int | tuple[int, int]
    classes: tuple[str, ...]
    tasks: int
    train_images: int
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    flip: bool
    sums: tuple[tuple[str, str], ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size)


def _tiny_imagenet_classes() -> tuple[str, ...]:
    """Names in the order of the sorted WordNet ids, as torchvision's `ImageFolder` numbers them."""
    with (BUNDLED / "tiny_imagenet_classes.csv").open(encoding="utf-8", newline="") as lines:
        return tuple(row["name"] for row in csv.DictReader(lines))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DIGITS = _names("zero one two three four five six seven eight nine")
_FASHION = _names("t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle_boot")
_CIFAR10 = _names("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR100 = _names(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)

SPECS = (
    # 8x8 pixels: a crop by one pixel is 1/8 of the width, as 4 of 32 in CIFAR. A mirrored digit is
    # not a digit.
    DatasetSpec(
        name="digits",
        channels=1,
        size=8,
        classes=_DIGITS,
        tasks=5,
        train_images=1_438,
        test_images=359,
        mean=(0.3058,),
        std=(0.3764,),
        padding=1,
        flip=False,
    ),
    DatasetSpec(
        name="fashion-mnist",
        channels=1,
        size=28,
        classes=_FASHION,
        tasks=5,
        train_images=10_000,
        test_images=2_000,
        mean=(0.2860,),  # of the full training set
        std=(0.3530,),
        padding=2,  # garments fill the frame
        flip=True,
    ),
    DatasetSpec(
        name="fashion-mnist-full",
        channels=1,
        size=28,
        classes=_FASHION,
        tasks=5,
        train_images=60_000,
        test_images=10_000,
        mean=(0.2860,),
        std=(0.3530,),
        padding=2,  # garments fill the frame
        flip=True,
    ),
    DatasetSpec(
        name="cifar10",
        channels=3,
        size=32,
        classes=_CIFAR10,
        tasks=5,
        train_images=50_000,
        test_images=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2615),  # as in mammoth and the official SparCL code
        padding=4,
        flip=True,
        sums=(
            ("data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"),
            ("data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"),
            ("data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"),
            ("data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"),
            ("data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"),
            ("test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"),
        ),
    ),
    DatasetSpec(
        name="cifar100",
        channels=3,
        size=32,
        classes=_CIFAR100,
        tasks=10,
        train_images=50_000,
        test_images=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        padding=4,
        flip=True,
    ),
    # Its test labels are not public: the validation split is the test set, as in the papers.
    DatasetSpec(
        name="tiny-imagenet",
        channels=3,
        size=64,
        classes=_tiny_imagenet_classes(),
        tasks=10,
        train_images=100_000,
        test_images=10_000,
        mean=(0.4802, 0.4480, 0.3975),  # as in mammoth
        std=(0.2770, 0.2691, 0.2821),
        padding=4,
        flip=True,
    ),
)

for _spec in SPECS:
    DATASETS.register(_spec.name, _spec)
