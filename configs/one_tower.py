"""A one-tower AlexNet with groups in conv2 alone, trained as torchvision's.

    python -m alexnet_jax.main --config configs/one_tower.py --workdir runs/one_tower

Protocol as in configs/torchvision.py. Images and hardware as in configs/imagenet.py.
Expected error: none published that was checked.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'one_tower'
    config.train.protocol = 'torchvision'
    config.data.source = 'tfds:imagenet2012'
    return config
