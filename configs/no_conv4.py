"""Its ablation: a middle layer less (§7). The authors' code has no such net.

    python -m alexnet_jax.main --config configs/no_conv4.py --workdir runs/no_conv4

configs/krizhevsky2012.py in all else, its diary (net 145's) included. Images and hardware as in
configs/imagenet.py.
Expected error on the validation set: "about 2 %" above that of configs/krizhevsky2012.py in top-1 (§7);
no number is published.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_conv4'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
