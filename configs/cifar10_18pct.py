"""The authors' CIFAR-10 net of 2011: 18 % error without augmentation (layers-18pct.cfg).

    python -m alexnet_jax.data.prepare --source tfds:cifar10 --size 32 --encoding raw --val_fraction=0.02 --out sets/cifar10
    python -m alexnet_jax.main --config configs/cifar10_18pct.py --workdir runs/cifar10_18pct
    python -m alexnet_jax.ablations --config configs/cifar10_18pct.py --ablations cifar18_no_norm --seeds 1 --workdir runs/cifar10_norm

The last command trains it without normalization as well (§3.3).
ε 0.001, divided by 10 after 120 and 130 of 140 epochs. Test error to expect: 0.200 [0.192, 0.208] (95 %
interval of 10,000 images, one view, seed 0), after two hours on one CPU core. The images were
JPEGs of CIFAR-10's, and 1,000 of the 50,000 training images were kept for validation. The
authors report 0.18.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'cifar18'
    config.data.source = 'tfds:cifar10'
    config.data.dir = 'sets/cifar10'
    config.data.record_size = 32
    config.train.protocol = 'cifar18'
    config.train.micro_batches = 8  # 16 images fit the caches of a CPU; give 1 on a GPU
    return config
