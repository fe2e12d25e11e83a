"""LightCL's Table 1: every printed memory and FLOPs figure is counted from the network, or said not to be."""

import pytest

from sparcl_lite.measure.memory import FLOAT_BYTES
from sparcl_lite.papers.lightcl.accounting import COUNTINGS, MIB, comparison, flops, memory, readings, units
from sparcl_lite.papers.reference import reference

PRINTED = reference("lightcl", "table1").set_index(["row", "column"])["value"]
DATASETS = {"cifar10": 1e15, "tiny-imagenet": 1e16}  # unit of the printed FLOPs
OTHERS = [row for row in COUNTINGS if not row.startswith("lightcl")]


def mib(row, dataset, reading=""):
    return sum(memory(row, dataset, reading).values()) / MIB


def test_every_row_of_the_table_is_counted():
    assert list(COUNTINGS) == list(PRINTED.index.get_level_values("row").unique())


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("row", OTHERS)
def test_memory_as_published(row, dataset):
    assert mib(row, dataset) == pytest.approx(PRINTED[row, f"{dataset}/memory"], rel=5e-3)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("row", COUNTINGS)
def test_flops_as_published(row, dataset):
    unit = DATASETS[dataset]
    rounding = 0.05 * unit  # the small ones are printed with two digits
    assert flops(row, dataset) == pytest.approx(PRINTED[row, f"{dataset}/flops"], rel=2e-2, abs=rounding)


def test_pnn_counts_one_frozen_column_less_than_there_are():
    # forward and backward of a column, and forward passes through max(0, t - 2) of the t - 1 older columns of task t
    for dataset, units_of_a_task, all_older in (("cifar10", 21 / 5, 5.0), ("tiny-imagenet", 66 / 10, 7.5)):
        forward = flops("sgd", dataset) / 3
        assert flops("pnn", dataset) / forward == pytest.approx(units_of_a_task)
        assert all_older * forward > 1.1 * PRINTED["pnn", f"{dataset}/flops"]


@pytest.mark.parametrize(
    ("row", "reading", "cifar", "tiny"),
    [
        ("lightcl-15", "frozen part free", 82.4, 105.7),
        ("lightcl-15", "one frozen map", 94.2, 152.7),
        ("lightcl-15", "dense fit", 92.79, 128.04),
        ("lightcl-0.90-15", "frozen part free", 13.3, 36.6),
        ("lightcl-0.90-15", "one frozen map", 25.1, 83.6),
        ("lightcl-0.90-15", "two frozen maps", 36.8, 130.6),
    ],
)
def test_lightcls_own_rows_by_reading(row, reading, cifar, tiny):
    assert [mib(row, dataset, reading) for dataset in DATASETS] == pytest.approx([cifar, tiny], abs=0.05)


def test_which_readings_come_close_to_lightcls_printed_memory():
    lines = comparison().query("quantity == 'memory' and reading != ''")
    lines = lines.assign(error=(lines["counted"] / lines["printed"] - 1).abs())
    worst = lines.groupby(["row", "reading"])["error"].max()
    assert worst["lightcl-15", "dense fit"] < 5e-4
    assert worst["lightcl-0.90-15", "one frozen map"] == pytest.approx(0.0404, abs=1e-3)
    assert worst.drop([("lightcl-15", "dense fit"), ("lightcl-0.90-15", "one frozen map")]).min() > 0.15


def test_ratio_of_the_abstract_hinges_on_the_frozen_maps():
    assert PRINTED["sparcl-der++-0.90-15", "tiny-imagenet/memory"] / PRINTED[
        "lightcl-0.90-15", "tiny-imagenet/memory"
    ] == pytest.approx(6.16, abs=5e-3)
    large = mib("sparcl-der++-0.90-15", "tiny-imagenet")
    found = [large / mib("lightcl-0.90-15", "tiny-imagenet", reading) for reading in readings("lightcl-0.90-15")]
    assert found == pytest.approx([14.6, 6.4, 4.1], abs=0.05)


def test_units_by_hand():
    found = {unit.name: unit for unit in units(32)}
    assert list(found) == ["stem", *(f"layer{s}.{b}" for s in (1, 2, 3, 4) for b in (0, 1)), "linear"]
    stem = found["stem"]
    assert (stem.parameters, stem.kept) == (27 * 64 + 2 * 64, 27 * 52 + 2 * 52)
    assert (stem.macs, stem.maps) == (27 * 64 * 1024, (64 * 1024,))
    first = found["layer4.0"]  # 256 to 512 channels, of which 78 and 103 are left; the shortcut keeps all inputs
    assert first.parameters == 9 * 512 * (256 + 512) + 256 * 512 + 3 * 2 * 512
    assert first.kept == 9 * 103 * (78 + 103) + 103 * 256 + 3 * 2 * 103
    assert first.macs == 16 * (9 * 512 * (256 + 512) + 256 * 512)
    assert first.maps == (512 * 16, 512 * 16)
    assert (found["linear"].parameters, found["linear"].kept, found["linear"].maps) == (5130, 1040, ())
    assert sum(len(unit.maps) for unit in found.values()) == 17
    assert sum(unit.parameters for unit in found.values()) == 11_173_962
    assert sum(unit.kept for unit in found.values()) == 1_076_062
    assert sum(sum(unit.maps) for unit in found.values()) == 557_056


def test_parts_of_a_row_by_hand():
    parts = memory("lightcl-15", "tiny-imagenet", "two frozen maps")
    assert parts == {
        "weights": FLOAT_BYTES * 11_173_962,
        "gradients": FLOAT_BYTES * 8_398_858,
        "copies": 0,
        "activations": FLOAT_BYTES * 47 * 4 * 512 * 64,
        "references": FLOAT_BYTES * 15 * 4 * 512 * 64,
        "transient": FLOAT_BYTES * 2 * 47 * 64 * 64 * 64,
    }
    assert memory("ewc", "cifar10")["copies"] == parts["weights"]
    assert memory("sparcl-er-0.90-15", "cifar10")["gradients"] == round(0.05 * parts["weights"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lightcl", "cifar10"), "row: got 'lightcl', allowed: .*'lightcl-15'"),
        (("lightcl-15", "cifar10"), "reading: got '', allowed: .*'one frozen map'"),
        (("lightcl-0.90-15", "cifar10", "dense fit"), "reading: got 'dense fit'"),
        (("er-15", "cifar10", "one frozen map"), "reading: got 'one frozen map'"),
        (("er-15", "digits"), "dataset: got 'digits', allowed: 'cifar10'"),
    ],
)
def test_unknown_names_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        memory(*arguments)
