"""Which images a trained network is measured on."""

import torch

from samsweep.data.load import load_dataset
from samsweep.training.measured_examples import measured_examples
from tests.helpers import compose_run


def examples(name, *overrides):
    run = compose_run("dataset.label_noise=0", *overrides)
    data = load_dataset(run.cell.dataset, data_dir=run.data_dir, path=None)
    return *measured_examples(name, run.sharpness, run.cell, data), data


def test_the_first_training_images_as_they_are():
    images, labels, data = examples("trace", "sharpness.num_examples=30")
    assert torch.equal(images, data.normalize(data.train.inputs[:30]))
    assert torch.equal(labels, data.train.labels[:30])


def test_the_studys_batches_are_shuffled_and_augmented():
    settings = ("sharpness.empirical_sam.batch_size=200", "sharpness.empirical_sam.num_batches=6")
    images, labels, data = examples("empirical_sam", *settings, "dataset.augment.crop_padding=0")
    assert len(images) == len(labels) == 1200
    pixels = data.normalize(data.train.inputs).flatten(1)
    distances = torch.cdist(images.flatten(1), pixels)
    found = distances.argmin(dim=1)
    assert distances.min(dim=1).values.max() < 0.02  # cdist rounds
    # Four batches of 200 are a pass over the 898 images: none of them comes twice in it.
    one_pass = found[:800]
    assert len(one_pass.unique()) > 780  # a few digits of the data set are alike
    assert not torch.equal(found[:200], found[800:1000])
    assert (data.train.labels[found] == labels).float().mean() > 0.99
    cropped, _, _ = examples("empirical_sam", *settings, "dataset.augment.crop_padding=1")
    assert not torch.equal(cropped, images)
    again, _, _ = examples("empirical_sam", *settings, "dataset.augment.crop_padding=1")
    assert torch.equal(cropped, again)


def test_a_batch_is_no_larger_than_the_training_set():
    images, _, data = examples("empirical_sam", "sharpness.empirical_sam.batch_size=5000")
    assert len(images) == 40 * len(data.train)
