"""The paper's run (§5)."""

config = {
    'network.name': 'paper',
    'data.source': 'tfds:imagenet2012',
}
