"""A variant met with: 192 maps in conv5, normalized as well; trained as the paper's.

    python -m alexnet_jax.main --config configs/conv5_192.py --workdir runs/conv5_192

Protocol as in configs/imagenet.py. Images and hardware as in configs/imagenet.py.
Expected error: none published that was checked.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'conv5_192'
    config.data.source = 'tfds:imagenet2012'
    return config
