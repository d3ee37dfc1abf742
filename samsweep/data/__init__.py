"""Images of a data set as whole tensors, and random changes to batches of them.

Free of torch, for planning:

* :mod:`samsweep.data.dataset_info`: classes, sizes and counts of any data set, without loading it.
* :mod:`samsweep.data.folder_tree`: the same for a folder of images, with its fingerprint.
* :mod:`samsweep.data.arrays`: arrays of any shape and type, checked.
* :mod:`samsweep.data.inspection`: data that say nothing of themselves.
* :mod:`samsweep.data.download`: published data sets, downloaded once.

With torch, for training:

* :mod:`samsweep.data.load`: the one way to load a data set by its configuration.
* :mod:`samsweep.data.splits`: what loading returns, and normalisation.
* :mod:`samsweep.data.digits`, :mod:`samsweep.data.cifar`, :mod:`samsweep.data.torchvision_sets`,
  :mod:`samsweep.data.image_folder`, :mod:`samsweep.data.parquet`: the sources.
* :mod:`samsweep.data.label_noise`, :mod:`samsweep.data.augment`: random changes to labels and
  images.
"""
