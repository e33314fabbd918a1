"""Its ablation: columns that meet at fc8 alone (net 150 of the authors' code).

    python -m alexnet_jax.main --config configs/no_communication.py --workdir runs/no_communication

configs/krizhevsky2012.py in all else, the authors' diary included. Images and hardware as in configs/imagenet.py.
Error to expect. Validation set, ten views: top-1 0.4183, top-5 0.1933.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'no_communication'
    config.train.protocol = 'diary'
    config.data.source = 'tfds:imagenet2012'
    return config
