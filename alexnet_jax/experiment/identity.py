"""Identity of a run, which binds its workdir from the first step on.

It is stored in three files of the workdir and with every checkpoint, so that the exchange of one
with that of another run is detected.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data.own_source import without_folder
from alexnet_jax.experiment import config as configuration
from alexnet_jax.experiment import kept_config
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.settings import SETTINGS
from alexnet_jax.runtime import files
from alexnet_jax.runtime.errors import InputError, plain, shown
from alexnet_jax.training import protocol_json

# In addition to checkpoints/, `load` needs only these.
CONFIG, ABOUT, NORMALIZATION = 'config.json', 'model.json', 'normalization.npz'
RUN = 'run'  # of a checkpoint's record: facts other than the configuration
CLOSE = 1e-6  # relative; the rounding of a set's mean depends on the processor
WEIGHTS = 'weights'  # in `Identity.data`
NAMED = 3  # class names in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Identity:
    """Net and training data of a run.

    config: configuration, for a workdir with the table of the net.
    classes: their names, in the order of the logits.
    mirror: whether an image's mirror image is one of its class too.
    mean, scale: as in `inference.normalize`.
    data: the set, as `ImageSet.identity`; for imported weights the known facts, and under `WEIGHTS`
      a digest of the weights, which distinguishes imports.
    """

    config: Config
    classes: tuple[str, ...]
    mirror: bool
    mean: np.ndarray
    scale: np.ndarray
    data: Mapping[str, str]

    @property
    def facts(self) -> dict[str, str]:
        """Short texts that are equal if the classes, normalization and set are equal."""
        some = ', '.join(plain(name, 40) for name in self.classes[:NAMED])
        more = ', ...' if len(self.classes) > NAMED else ''
        numbers = np.concatenate([np.ravel(self.mean), np.ravel(self.scale)]).astype(np.float32)
        return {
            'classes': f'{len(self.classes)}: {some}{more} ({digest(self.classes)})',
            'mirror': str(self.mirror),
            'mean and scale': _digest(numbers.tobytes()),
            **{f'data {name}': value for name, value in self.data.items()},
        }

    @property
    def digest(self) -> str:
        """Digest of the settings with effect, the net's table, the classes and the normalization.

        It does not depend on the length of a run.

        Default values are omitted, so that a new setting of a later version changes no digest.
        Other facts of the set are omitted, because a model.json may lack some.
        """
        settled = configuration.settled(self.config)
        values = configuration.flat(settled)
        values['data.source'] = without_folder(values['data.source'])
        config = {
            name: values[name]
            for name in kept_config.settings_with_effect(settled)
            if values[name] != SETTINGS[name].default
        }
        facts = {name: self.facts[name] for name in ('classes', 'mirror', 'mean and scale')}
        own = [] if settled.train.table is None else [protocol_json.to_json(settled.train.table)]
        return digest([config, network_digest(settled), facts, *own])

    @property
    def record(self) -> dict[str, Any]:
        """JSON for a checkpoint: the configuration with the table of the net, and the facts."""
        return kept_config.to_tree(kept_config.with_table(self.config)) | {RUN: self.facts}


def write(workdir: Path, identity: Identity, about: Mapping[str, Any]) -> None:
    """Writes the three files.

    Args:
      about: additional content of config.json.

    Raises:
      OSError: one cannot be written.
    """
    config = kept_config.to_tree(kept_config.with_table(identity.config))
    _write_json(workdir / CONFIG, config | dict(about))
    shown = {'classes': identity.classes, 'mirror': identity.mirror, 'data': identity.data}
    _write_json(workdir / ABOUT, shown)
    arrays = {'mean': np.asarray(identity.mean), 'scale': np.asarray(identity.scale)}
    files.write_bytes(workdir / NORMALIZATION, files.npz(arrays))


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    files.write_bytes(path, (json.dumps(tree, indent=2, allow_nan=False) + '\n').encode())


def read(workdir: Path) -> Identity:
    """Returns the identity stored in a workdir.

    Raises:
      InputError: one of its files is missing, or was not written by `write`.
    """
    config = kept_config.read_workdir(workdir / CONFIG)
    size = configuration.network_of(config).input_size
    about, arrays = read_about(workdir / ABOUT), read_normalization(workdir / NORMALIZATION, size)
    mean, scale = arrays['mean'], arrays['scale']
    return Identity(config, about['classes'], about['mirror'], mean, scale, about['data'])


def with_kept(run: Identity, workdir: Path) -> Identity:
    """Returns the identity with the fields stored in a workdir.

    They are read from model.json and normalization.npz, if these exist; raises as `read`.
    """
    about, arrays = workdir / ABOUT, workdir / NORMALIZATION
    if about.exists():
        run = dataclasses.replace(run, **read_about(about))
    if arrays.exists():
        size = configuration.network_of(run.config).input_size
        kept = read_normalization(arrays, size)
        run = dataclasses.replace(run, mean=kept['mean'], scale=kept['scale'])
    return run


def read_normalization(path: Path, size: int) -> dict[str, np.ndarray]:
    """Returns the mean and scale of a net of `size` pixels; raises as `read`."""
    with _readable(path):
        shapes = {'mean': ((3,), (size, size, 3)), 'scale': ((3,),)}
        with np.errstate(over='ignore'):
            arrays = {
                name: array.astype(np.float32)
                for name, array in files.read_arrays(path, shapes).items()
            }
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError('it holds numbers that are too large for float32')
        if not (arrays['scale'] > 0).all():
            raise ValueError('scale is not above 0')
    return arrays


def read_about(path: Path) -> dict[str, Any]:
    """Returns the classes, mirror and set of model.json; raises as `read`."""
    with _readable(path):
        about = files.read_json(path)
        fault = _fault_of(about)
        if fault:
            raise ValueError(fault)
    return {
        'classes': tuple(about['classes']),
        'mirror': about['mirror'],
        'data': about.get('data', {}),  # older workdirs have none
    }


def _fault_of(about: Any) -> str:
    """Returns the fault in the content of model.json; '' if there is none."""
    if not isinstance(about, dict):
        return f'it holds {shown(about)}; allowed: an object with classes and mirror'
    classes, mirror, data = about.get('classes'), about.get('mirror'), about.get('data', {})
    if not isinstance(classes, list) or not classes:
        return f'classes is {shown(classes)}; allowed: a list of names'
    for name in classes:
        if not isinstance(name, str) or not name:
            return f'classes has {shown(name)}; allowed: names'
    if len(set(classes)) < len(classes):
        double = collections.Counter(classes).most_common(1)[0][0]
        return f'classes has {shown(double)} more than once'
    if not isinstance(mirror, bool):
        return f'mirror is {shown(mirror)}; allowed: true or false'
    if not isinstance(data, dict) or not all(isinstance(text, str) for text in data.values()):
        return f'data is {shown(data)}; allowed: texts by name'
    return ''


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f'{path} cannot be read: {error.strerror}; the training command writes it again if it'
            ' is missing'
        ) from error
    except ValueError as error:
        raise InputError(f'{path} cannot be used: {plain(error)}') from error


def differences(kept: Identity, now: Identity) -> list[str]:
    """Returns the differences of classes, normalization and set, one line each.

    `kept_config.differences` compares the configurations.
    """
    lines = class_differences(kept.classes, now.classes)
    if kept.mirror != now.mirror:
        lines.append(f'mirror of the set was {kept.mirror}, now {now.mirror}')
    for name in ('mean', 'scale'):
        one, other = getattr(kept, name), getattr(now, name)
        if one.shape != other.shape or not np.allclose(one, other, rtol=CLOSE, atol=CLOSE):
            lines.append(
                f'the {name} of the training images was {_numbers(one)}, now {_numbers(other)}'
            )
    lines += [  # little is known of imported weights
        f'{name} of the set {"were" if name.endswith("s") else "was"} {kept.data[name]}, now {value}'
        for name, value in now.data.items()
        if kept.data.get(name, value) != value
    ]
    return lines


def class_differences(kept: Collection[str], now: Collection[str]) -> list[str]:
    """Returns at most one line: other classes, or another order."""
    if len(kept) != len(now):
        return [f'there were {len(kept)} classes, now {len(now)}']
    for label, (one, other) in enumerate(zip(kept, now, strict=True)):
        if one != other:
            return [f'class {label} was {shown(one)}, now {shown(other)}']
    return []


def record_differences(
    record: Mapping[str, Any], identity: Identity, but: Collection[str] = ()
) -> list[str]:
    """Returns the differences of a checkpoint's record and an identity, one line each.

    It is [] for a checkpoint of that run.

    Args:
      but: settings to ignore.
    """
    if not record:
        return []  # a checkpoint written by the library alone has no record
    try:
        config = kept_config.of_tree(record)
    except InputError as error:
        return str(error).splitlines()
    lines = kept_config.differences(identity.config, config, but)
    facts = record.get(RUN, {})  # older checkpoints have none
    return lines + [
        f'{name} was {shown(facts[name])}, now {value}'
        for name, value in identity.facts.items()
        if name in facts and facts[name] != value
    ]


def _numbers(values: np.ndarray) -> str:
    """Formats three numbers, or the mean of each channel of an image."""
    channels = values.reshape(-1, 3).mean(axis=0)
    return ','.join(f'{number:.2f}' for number in channels)


def digest_of(workdir: Path) -> str | None:
    """Returns the digest of a workdir's identity; None if there is no config.json.

    Raises:
      InputError: as `read`.
    """
    return read(workdir).digest if (workdir / CONFIG).exists() else None


def network_digest(config: Config) -> str:
    """Returns a digest of the whole table of the net.

    It uses `repr`, which names the kind of every stage: max and average pooling have the same
    fields.
    """
    return digest(repr(configuration.network_of(config)))


def digest(value: Any) -> str:
    """Returns a short text that differs for different JSON."""
    return _digest(json.dumps(value).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
