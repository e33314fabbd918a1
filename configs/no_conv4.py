"""Its ablation: a middle layer less (§7).

    python -m alexnet_jax.main --config configs/no_conv4.py --workdir runs/no_conv4

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. "About 2 %" more than configs/krizhevsky2012.py, the paper says.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_conv4'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
