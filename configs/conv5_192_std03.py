"""The variant of configs/conv5_192.py that learns: std 0.03 in conv3 to conv5, as in the authors' code.

    python -m alexnet_jax.main --config configs/conv5_192_std03.py --workdir runs/conv5_192_std03

Protocol, images and hardware as in configs/imagenet.py.
Expected error: none published.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'conv5_192_std03'
    config.data.source = 'tfds:imagenet2012'
    return config
