"""Shapes of the networks, and the names of their blocks, as configurations speak of them. No layers are made here."""

ARCHITECTURES = {
    "resnet18": {"blocks": (2, 2, 2, 2), "stem_stride": 1},
    "small": {"blocks": (1, 1, 1), "stem_stride": 2},
}
UNFROZEN = "none"


def block_names(network: str) -> list[str]:
    """Every block in order of execution: ``stem``, ``layer1.0``, ..."""
    blocks = ARCHITECTURES[network]["blocks"]
    return ["stem", *(f"layer{stage}.{i}" for stage, count in enumerate(blocks, 1) for i in range(count))]


def boundaries(network: str) -> list[str]:
    """What can be the last frozen block: nothing, or a block; the last one of a stage is called by its stage.

    >>> boundaries("small")
    ['none', 'stem', 'layer1', 'layer2', 'layer3']
    """
    blocks = ARCHITECTURES[network]["blocks"]
    last = {f"layer{stage}.{count - 1}": f"layer{stage}" for stage, count in enumerate(blocks, 1)}
    return [UNFROZEN, *(last.get(name, name) for name in block_names(network))]


def frozen_blocks(network: str, boundary: str) -> tuple[str, ...]:
    """The blocks up to and including a boundary."""
    return tuple(block_names(network)[: boundaries(network).index(boundary)])


def last_stage(network: str) -> list[str]:
    """The blocks of the last stage, which LightCL trains.

    >>> last_stage("resnet18")
    ['layer4.0', 'layer4.1']
    """
    return block_names(network)[-ARCHITECTURES[network]["blocks"][-1] :]
