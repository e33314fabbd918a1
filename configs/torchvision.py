"""torchvision's `alexnet`: one tower, no normalization; trained as theirs was.

    python -m alexnet_jax.data.prepare --source tfds:imagenet2012 --manual_dir TARS --resize=short_side
    python -m alexnet_jax.main --config configs/torchvision.py --workdir runs/torchvision

Batches of 256, ε 0.01 divided by 10 every 30 of 90 epochs, weight decay 1e-4, pixels
standardized by channel. The stored squares are those that torchvision evaluates on;
crops are of them, where torchvision trains on crops of random size and shape.
TARS and hardware as in configs/imagenet.py.
Expected error on the validation set: top-1 0.4348, top-5 0.2093, one view (torchvision's
AlexNet_Weights.IMAGENET1K_V1: accuracies 56.522 and 79.066 %).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'torchvision'
    config.train.protocol = 'torchvision'
    config.data.source = 'tfds:imagenet2012'
    config.data.resize = 'short_side'
    return config
