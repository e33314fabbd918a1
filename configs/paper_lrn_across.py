"""The paper's net (§3.5), its normalisation reaching over both columns as §3.3 can be read.

    python -m alexnet_jax.main --config configs/paper_lrn_across.py --workdir runs/paper_lrn_across

Otherwise configs/imagenet.py. Images and hardware as in configs/imagenet.py.
Error to expect: as configs/imagenet.py; the paper does not tell the two readings apart.
"""

config = {
    'network.name': 'paper_lrn_across',
    'data.source': 'tfds:imagenet2012',
}
