"""BVLC Caffe's bvlc_reference_caffenet: pooling before normalization; with its solver.

    python -m alexnet_jax.data.prepare --source tfds:imagenet2012 --manual_dir TARS --resize=squash
    python -m alexnet_jax.main --config configs/caffenet.py --workdir runs/caffenet

Caffe's solver: batches of 256, ε divided by 10 every 100,000 of 450,000 steps (90 epochs),
biases at twice the rate and not decayed, no color shift, the mean image subtracted (`mean_file` in
train_val.prototxt; the channel means 104, 117, 123 are those of Caffe's Python example). Images are
squashed to 256×256 whatever their shape, as Caffe does it. TARS and hardware as in configs/imagenet.py.
Expected error on the validation set: top-1 0.426, top-5 0.196, one view, after 310,000 steps
(models/bvlc_reference_caffenet/readme.md).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'caffenet'
    config.train.protocol = 'caffe'
    config.data.source = 'tfds:imagenet2012'
    config.data.resize = 'squash'
    return config
