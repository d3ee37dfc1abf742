import torch

from samsweep.data.label_noise import redraw_labels

LABELS = torch.arange(20_000) % 10


def test_share_of_wrong_labels_whatever_the_global_seed():
    torch.manual_seed(1)
    noisy = redraw_labels(LABELS, num_classes=10, probability=0.4)
    # 0.4 * 0.9 with a standard deviation of 0.0034.
    assert abs((noisy != LABELS).double().mean().item() - 0.36) < 0.015
    torch.manual_seed(2)
    assert torch.equal(noisy, redraw_labels(LABELS, num_classes=10, probability=0.4))


def test_wrong_labels_reach_every_class_equally():
    noisy = redraw_labels(LABELS, num_classes=10, probability=1.0)
    shares = torch.bincount(noisy, minlength=10) / len(noisy)
    assert len(shares) == 10
    assert (shares - 0.1).abs().max() < 0.01


def test_more_noise_keeps_what_less_noise_redrew():
    less = redraw_labels(LABELS, num_classes=10, probability=0.2)
    more = redraw_labels(LABELS, num_classes=10, probability=0.6)
    wrong = less != LABELS
    assert torch.equal(more[wrong], less[wrong])


def test_no_noise_and_no_change_in_place():
    labels = LABELS.clone()
    assert torch.equal(redraw_labels(labels, num_classes=10, probability=0.0), LABELS)
    redraw_labels(labels, num_classes=10, probability=1.0)
    assert torch.equal(labels, LABELS)
