"""Features as records: TensorFlow Examples in one ArrayRecord file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

Example = tf_example_pb2.Example  # pyright: ignore

FILE = 'features.array_record'


class RecordWriter:
    """Writes FILE in a folder: one record per image.

    A record has the image's `id`, its `label` and, under each array's name, its values in order as
    a list of floats.
    """

    def __init__(self, folder: Path):
        self._writer = ArrayRecordWriter(str(folder / FILE), 'group_size:1')

    def add(self, ids: np.ndarray, labels: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
        """Adds the next images.

        ids and labels: [images]; arrays: float32 rows [images, ...] of each.
        """
        for row, (identifier, label) in enumerate(zip(ids, labels.tolist(), strict=True)):
            example = Example()
            example.features.feature['id'].bytes_list.value.append(identifier)
            example.features.feature['label'].int64_list.value.append(label)
            for name, rows in arrays.items():
                numbers = rows[row].reshape(-1).tolist()
                example.features.feature[name].float_list.value.extend(numbers)
            self._writer.write(example.SerializeToString())

    def finish(self) -> None:
        """Writes pending records and closes the file."""
        self._writer.close()
