"""The paper's run (§5): the full net on ImageNet, ILSVRC-2012.

    python -m alexnet_jax.data.prepare --source tfds:imagenet2012 --manual_dir TARS
    python -m alexnet_jax.main --config configs/imagenet.py --workdir runs/imagenet

All settings are the defaults, and those are the paper's: batch 128, ε 0.01,
momentum 0.9, weight decay 5e-4, about 90 epochs. TARS holds the two tars from
image-net.org (docs/data.md). Any other source runs with only `data.source` changed;
without any, the same net, step, log and checkpoints run on images made from a seed:

    python -m alexnet_jax.main --config configs/imagenet.py --workdir runs/dry \
        --config.data.source=synthetic --config.train.steps=3

Hardware and time: the paper took five to six days on two GTX 580 GPUs. On 2 CPU
cores a step takes about three seconds (the dry run a minute), 90 epochs a
month. Not yet run on ImageNet here.
Expected error, the paper's on the validation set: top-1 0.407, top-5 0.182 over
ten views (§6, Table 2), as --mode=eval --config.eval.views=10 has them. One view is
about 0.015 higher (§4.1: 0.390 against 0.375 top-1 on ILSVRC-2010).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.data.source = 'tfds:imagenet2012'
    return config
