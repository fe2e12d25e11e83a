"""The reservoir against a one-by-one reference, and its uniformity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparcl_lite.replay import ReservoirBuffer


def generator(seed):
    return torch.Generator().manual_seed(seed)


def numbered(start, count):
    """Images, labels and logits that all carry the sample's number."""
    numbers = torch.arange(start, start + count)
    images = numbers.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).to(torch.uint8)
    return images, numbers, numbers.float()[:, None].expand(-1, 3)


def filled(capacity, sizes, seed=0):
    buffer = ReservoirBuffer(capacity, generator(seed))
    start = 0
    for size in sizes:
        buffer.add(*numbered(start, size))
        start += size
    return buffer


def reference(capacity, sizes, seed=0):
    """Algorithm R, one sample at a time, on the same random numbers."""
    draw, kept, seen = generator(seed), [], 0
    for size in sizes:
        for uniform in torch.rand(size, generator=draw, dtype=torch.float64).tolist():
            if seen < capacity:
                kept.append(seen)
            elif (slot := int(uniform * (seen + 1))) < capacity:
                kept[slot] = seen
            seen += 1
    return kept


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 10**6))
def test_equals_algorithm_r_one_by_one(capacity, sizes, seed):
    buffer = filled(capacity, sizes, seed)
    expected = reference(capacity, sizes, seed)
    assert len(buffer) == len(expected) == min(capacity, sum(sizes))
    assert buffer.seen == sum(sizes)
    assert buffer.labels[: len(buffer)].tolist() == expected
    images, _, logits = numbered(0, sum(sizes))
    assert buffer.images[: len(buffer)].equal(images[expected])
    assert buffer.logits[: len(buffer)].equal(logits[expected])


def test_every_sample_is_kept_with_equal_probability():
    counts = torch.zeros(30)
    for seed in range(1500):
        counts[filled(6, [4, 9, 17], seed).labels] += 1
    assert counts.sum() == 6 * 1500
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_of_two_samples_of_a_batch_for_one_slot_the_later_wins():
    contested = 0
    for seed in range(30):
        buffer = ReservoirBuffer(1, generator(seed))
        drawn = torch.rand(8, generator=generator(seed), dtype=torch.float64) * torch.arange(1, 9)
        hits = [i for i in range(8) if i == 0 or drawn[i] < 1]  # the first fills the only slot
        buffer.add(*numbered(0, 8))
        assert buffer.labels.tolist() == [hits[-1]]
        contested += len(hits) > 1
    assert contested > 10


def test_samples_are_distinct_and_their_parts_belong_together():
    buffer = filled(10, [7])
    for size, expected in [(3, 3), (7, 7), (32, 7)]:
        memory = buffer.sample(size)
        assert len(set(memory.labels.tolist())) == len(memory.labels) == expected
        assert set(memory.labels.tolist()) <= set(range(7))
        assert memory.images[:, 0, 0, 0].tolist() == memory.labels.tolist() == memory.logits[:, 2].tolist()


def test_sampling_is_uniform_and_takes_another_generator_when_given():
    buffer, counts = filled(8, [8]), torch.zeros(8)
    for _ in range(800):
        counts[buffer.sample(3).labels] += 1
    assert chisquare(counts.numpy()).pvalue > 1e-3
    before = buffer.generator.get_state()
    one, same = (buffer.sample(3, generator(4)).labels for _ in range(2))
    assert one.equal(same)
    assert buffer.generator.get_state().equal(before)


def test_state_round_trip_continues_as_if_never_stopped():
    buffer = filled(5, [9, 4])
    twin = ReservoirBuffer(5, generator(1))
    twin.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in buffer.state_dict().items()})
    twin.generator.set_state(buffer.generator.get_state())
    for one in (buffer, twin):
        one.add(*numbered(13, 20))
    assert buffer.seen == twin.seen == 33
    assert buffer.labels.equal(twin.labels)
    assert buffer.sample(4).images.equal(twin.sample(4).images)


def test_an_empty_buffer_has_neither_length_nor_bytes():
    buffer = ReservoirBuffer(4, generator(0))
    assert (len(buffer), buffer.nbytes()) == (0, 0)
    twin = ReservoirBuffer(4, generator(0))
    twin.load_state_dict(buffer.state_dict())
    twin.add(*numbered(0, 2))
    assert len(twin) == 2
    assert twin.nbytes() == 4 * (4 + 8 + 12)  # uint8 pixels, int64 label, three float32 logits
    assert twin.images.dtype == torch.uint8


@pytest.mark.parametrize("name", ["images", "labels", "logits"])
def test_arrays_of_another_buffer_are_refused(name):
    """A checkpoint of another version may have them: the run starts over then."""
    buffer = ReservoirBuffer(4, torch.Generator())
    buffer.add(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.zeros(6, dtype=torch.long), torch.zeros(6, 3))
    state = buffer.state_dict()
    for other in (torch.zeros(*state[name].shape, 2), state[name][:3], None):
        with pytest.raises(ValueError, match="a buffer of 4 samples cannot have arrays of shapes"):
            ReservoirBuffer(4, torch.Generator()).load_state_dict(state | {name: other})
