"""The paper's Figure 1 (§3.1) on its own data: a four-layer net on CIFAR-10, by activation.

    python -m alexnet_jax.data.prepare --source tfds:cifar10 --size 32 --encoding raw --val_fraction=0.02 --out sets/cifar10
    python -m alexnet_jax.figure1 --config configs/cifar10_figure1.py --workdir runs/cifar10_figure1

Epochs to a training error of 0.25: ReLU 7.0 (ε 0.003, three seeds), tanh 44.2 (0.01, two seeds;
docs/photographs.md), 6.3 times as many. A run takes 41 s an epoch on one CPU core.

One constant rate for each activation, the best of a grid; no regularization of any kind.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'four_layer'
    config.data.source = 'tfds:cifar10'
    config.data.dir = 'sets/cifar10'
    config.data.record_size = 32
    config.train.protocol = 'constant'
    config.optimizer.learning_rate = 0.003
    config.train.epochs = 60  # tanh reaches 25 % training error after 43 to 45
    config.train.micro_batches = 8  # 16 images fit the caches of a CPU; give 1 on a GPU
    return config
