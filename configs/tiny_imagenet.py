"""The paper's net (§3) for photographs of 64 pixels: Tiny ImageNet, 200 classes of ImageNet.

python -m alexnet_jax.data.prepare --source folder:tiny-imagenet-200 --size 64 --encoding raw --out sets/tiny_imagenet
python -m alexnet_jax.main --config configs/tiny_imagenet.py --workdir runs/tiny_imagenet

Expected error on the 10,000 validation images, one view: top-1 0.717 to 0.746, top-5 0.454 to 0.480
(seeds 0 and 1, two processors). It depends on when the rate first drops, after 17 to 27 epochs.
About an hour on one CPU core; docs/photographs.md has all results.

What each part gains, in runs of equal length (half an hour on one core each):
python -m alexnet_jax.ablations --config configs/tiny_imagenet.py --workdir runs/tiny_imagenet_ablations \
    --ablations half,no_lrn,non_overlapping,no_communication,no_dropout,no_crops --seeds 2 \
    --config.train.protocol=linear --config.train.epochs=12
"""

from alexnet_jax import default_config


def get_config():
    config = default_config()
    config.network.name = 'photographs'
    config.data.source = 'folder:tiny-imagenet-200'
    config.data.dir = 'sets/tiny_imagenet'
    config.data.record_size = 64
    config.optimizer.learning_rate = 0.004  # at 0.01 the first epochs take twice as long
    config.schedule.patience = 2
    config.train.epochs = 32
    config.train.micro_batches = 8  # 16 images fit the caches of a CPU; give 1 on a GPU
    return config
