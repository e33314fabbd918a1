"""nvcaffe's `alexnet_bn`, in large batches with LARS (arXiv:1708.03888), by its last author's solvers.

    python -m alexnet_jax.data.prepare --source tfds:imagenet2012 --manual_dir TARS --resize=squash
    python -m alexnet_jax.main --config configs/alexnet_bn.py --workdir runs/alexnet_bn

8192 images a step: ε rises from 1 to 10 in 600 steps, then 10 (1 − progress)², 100 epochs. With 16384
and 32768 images, --config.train.protocol=alexnet_bn_16k and alexnet_bn_32k. With 1024 the solvers name
2 in a comment: --config.data.batch_size=1024 --config.optimizer.learning_rate=2. Batch normalization
needs all images of a step at once: --config.mesh.data=N for N devices.
TARS and hardware as in configs/imagenet.py.
Expected error on the validation set: top-1 0.399 with 8K, 0.407 with 16K, 0.422 with 32K (You, Gitman,
Ginsburg, submission to ICLR 2018, Table 3b: ε 14, 23 and 22, five epochs of warm-up). The solvers name
another file of the net than this table's, train_val2 (docs/net.md).
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'alexnet_bn'
    config.train.protocol = 'alexnet_bn_8k'
    config.data.source = 'tfds:imagenet2012'
    config.data.resize = 'squash'
    return config
