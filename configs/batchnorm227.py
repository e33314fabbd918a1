"""AlexNet with batch normalisation, in large batches with LARS (arXiv:1708.03888).

    python -m alexnet_jax.main --config configs/batchnorm227.py --workdir runs/batchnorm227

4096 images a step, ε 0.25 for each 256 of them, five epochs of warm-up, 100 in all:
for 8 devices or more, --config.mesh.data=8. Images and hardware as in configs/imagenet.py.
Error to expect on the validation set: top-1 about 0.42, the best reported of such runs;
the rates here are this project's own and untried at that size.
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'batchnorm227'
    config.train.protocol = 'large_batch'
    config.data.source = 'tfds:imagenet2012'
    return config
