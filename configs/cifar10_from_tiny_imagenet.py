"""Fine-tuning: CIFAR-10 from a net that was trained on Tiny ImageNet, with a classifier of its own.

# needs runs/tiny_imagenet, the run of configs/tiny_imagenet.py
python -m alexnet_jax.data.prepare --source tfds:cifar10 --size 64 --encoding raw --val_fraction=0.02 --out sets/cifar10_64
python -m alexnet_jax.main --config configs/cifar10_from_tiny_imagenet.py --workdir runs/cifar10_fine_tuned

The layers below the classifier begin with the other net's values, and images are normalized as they were for it.
Test error to expect: 0.295 [0.286, 0.304] (one view, seed 0, JPEG images), after ten minutes on one CPU core. The same
run from random values has 0.341 [0.332, 0.350]:
--config.start.from= --config.start.layers= --config.data.normalization=mean_image
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'photographs'
    config.data.source = 'tfds:cifar10'
    config.data.dir = 'sets/cifar10_64'
    config.data.record_size = 64
    config.data.normalization = 'start'
    config.start['from'] = 'runs/tiny_imagenet'
    config.start.layers = ('conv1', 'conv2', 'conv3', 'conv4', 'conv5', 'fc6', 'fc7')
    config.train.protocol = 'linear'
    config.train.epochs = 10
    config.train.micro_batches = 8  # 16 images fit the caches of a CPU; give 1 on a GPU
    config.optimizer.learning_rate = 0.004
    return config
