"""Images of a data set as whole tensors, and random changes to batches of them.

Free of torch, for planning:

* :mod:`samsweep.data.dataset_info`: classes, sizes and counts of any data set, without loading it.
* :mod:`samsweep.data.folder_tree`: the same for a folder of images, with its fingerprint.

With torch, for training:

* :mod:`samsweep.data.load`: the one way to load a data set by its configuration.
* :mod:`samsweep.data.images`: what loading returns, and normalisation.
* :mod:`samsweep.data.digits`, :mod:`samsweep.data.cifar`, :mod:`samsweep.data.image_folder`: the
  sources.
* :mod:`samsweep.data.label_noise`, :mod:`samsweep.data.augment`: random changes to labels and
  images.
"""
