"""The authors' CIFAR-10 net of 2011: 18 % error without augmentation.

    python -m alexnet_jax.main --config configs/cifar18.py --workdir runs/cifar18

python -m alexnet_jax.data.prepare --source tfds:cifar10 --size 32 --encoding raw --val_fraction=0.1

ε 0.001, divided by 10 after 120 and 130 of 140 epochs. Hardware and time: 2 CPU cores,
about a day; a GPU, minutes (neither tried).
Error to expect: top-1 0.18 on the test set (the authors' own).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'cifar18'
    config.data.source = 'tfds:cifar10'
    config.data.record_size = 32
    config.train.protocol = 'cifar18'
    return config
