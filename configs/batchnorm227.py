"""AlexNet with batch normalization, in large batches with LARS (arXiv:1708.03888).

    python -m alexnet_jax.main --config configs/batchnorm227.py --workdir runs/batchnorm227

4096 images a step, ε 0.25 for each 256 of them, five epochs of warm-up, 100 in all:
for 8 devices or more, --config.mesh.data=8. Images and hardware as in configs/imagenet.py.
Expected error: none published of this net; the rates here are this project's own and untried at that
size. Near it on the validation set: another AlexNet with batch normalization, LARS and batches of 4096,
top-1 0.396 (You, Gitman, Ginsburg, submission to ICLR 2018, Table 3b); one without groups, batch
normalization before every ReLU, also in fc6 and fc7, one view: top-1 0.3957, top-5 0.1753
(github.com/HolmesShuan/AlexNet-BN-Caffemodel-on-ImageNet).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'batchnorm227'
    config.train.protocol = 'large_batch'
    config.data.source = 'tfds:imagenet2012'
    return config
