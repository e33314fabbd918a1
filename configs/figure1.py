"""The paper's Figure 1 (§3.1): a four-layer net with one activation or another.

    python -m alexnet_jax.figure1 --config configs/figure1.py --workdir runs/figure1
    python -m alexnet_jax.figure1 --config configs/figure1.py --workdir runs/figure1_cifar10 \
        --config.data.source=tfds:cifar10 --config.train.epochs=40

One constant rate, picked from a grid for each activation; no regularization of any kind.
The paper's is on CIFAR-10 (first `python -m alexnet_jax.data.prepare --source
tfds:cifar10 --size 32 --encoding raw --val_fraction=0.1`); without a download, on the digits.

Hardware and time: 2 CPU cores, about half a minute a run; two activations, four rates
and three seeds, 12 runs, ten minutes on a busy machine.
Epochs to a training error of 0.25 on the digits: ReLU 3.8 ± 1.2, tanh 2.7 ± 0.1 (seeds 0
to 2), the other way round than the paper's on CIFAR-10 (docs/LOG.md).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'four_layer'
    config.data.source = 'digits'
    config.data.record_size = 32
    config.train.protocol = 'constant'
    config.optimizer.learning_rate = 0.003
    config.train.epochs = 12
    return config
