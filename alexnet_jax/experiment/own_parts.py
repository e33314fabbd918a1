"""Users' own nets and protocols, FILE.py:NAME in `network.name` and `train.protocol`.

A file is executed when its net or protocol is first needed. A run stores the content, not the path
(`config.settled`): only a new run needs the file.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from alexnet_jax.experiment.settings import SETTINGS, fault_of, normalized
from alexnet_jax.network import table_json
from alexnet_jax.network.architectures import ARCHITECTURES
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import python_files
from alexnet_jax.runtime.errors import InputError, nearest, plain, shown
from alexnet_jax.training import protocol_json
from alexnet_jax.training.protocols import PROTOCOLS, Protocol

NETWORK, PROTOCOL = 'network.name', 'train.protocol'  # the settings that may name a file
# A protocol may set defaults of settings of these groups, and of these settings, if they are
# numbers, strings or booleans: a ConfigDict field that references another cannot be a tuple.
BRINGS = ('data.', 'optimizer.', 'schedule.', 'train.epochs', 'train.steps')
BROUGHT = tuple(
    name
    for name, setting in SETTINGS.items()
    if name.startswith(BRINGS)
    and not isinstance(setting.default, tuple | dict)
    and name not in ('data.source', 'data.dir')
)
MISSING = (
    'a run that has begun does not need it: --workdir without --config resumes or evaluates it'
)


def network(text: str, option: str = NETWORK) -> Architecture:
    """Returns the table of FILE.py:NAME.

    Args:
      option: the beginning of messages.

    Raises:
      InputError: as `python_files.find`; its name belongs to another table of this package, or
        cannot be stored in a workdir.
    """
    net = python_files.find(
        text,
        option,
        lambda found: isinstance(found, Architecture),
        'an Architecture (alexnet_jax.network.layers)',
        MISSING if option == NETWORK else '',
    )
    net = _kept(net, table_json.to_json, table_json.from_json, f'{option} {plain(text)}')
    _require_own_name(text, option, net, ARCHITECTURES)
    return net


def protocol(text: str, option: str = PROTOCOL) -> Protocol:
    """Returns the protocol of FILE.py:NAME, checked.

    Raises as `network`, and where a field or a default of a setting is not allowed.
    """
    found = python_files.find(
        text,
        option,
        lambda found: isinstance(found, Protocol),
        'a Protocol (alexnet_jax.training.protocols)',
        MISSING,
    )
    where = f'{option} {plain(text)}'
    try:
        protocol_json.require(found)
    except InputError as error:
        raise InputError(f'{where}: {error}') from error
    _require_settings(found.settings, where)
    _kept(found, protocol_json.to_json, protocol_json.from_json, where)
    _require_own_name(text, option, found, PROTOCOLS)
    return found


def brought(text: str) -> Mapping[str, Any]:
    """Returns the defaults of settings of the protocol FILE.py:NAME.

    They are {} if there is no such protocol; `protocol` raises the error.
    """
    try:
        return protocol(text).settings
    except InputError:
        return {}


def refuse_files(values: Mapping[str, Any]) -> None:
    """Checks that settings of a workdir or weight file name no file, which would be executed.

    Such settings may be untrusted.

    Raises:
      InputError: one does.
    """
    for name in (NETWORK, PROTOCOL):
        if python_files.names_object(values.get(name)):
            raise InputError(f'{name} is {shown(values[name])}; allowed: a name without a file')


def _kept(
    part: Any, to_json: Callable[[Any], Any], from_json: Callable[[Any], Any], where: str
) -> Any:
    """Returns a part as it is read back from a workdir."""
    try:
        return from_json(json.loads(json.dumps(to_json(part), default=lambda x: x.item())))
    except InputError as error:
        raise InputError(f'{where}: {error}') from error


def _require_own_name(text: str, option: str, part: Any, known: Mapping[str, Any]) -> None:
    """Checks that a name is unique among nets or protocols."""
    if known.get(part.name, part) == part and not python_files.names_object(part.name):
        return
    raise InputError(
        f'{option} {plain(text)}: its name is {shown(part.name)}; allowed: another name than those'
        ' of this package'
    )


def _require_settings(settings: Any, where: str) -> None:
    """Checks each of a protocol's defaults."""
    if not isinstance(settings, Mapping):
        raise InputError(f'{where} has settings {shown(settings)}; allowed: values by setting')
    for name, value in settings.items():
        if name not in BROUGHT:
            raise InputError(
                f'{where} has a default of {shown(name)}; the nearest is'
                f' {nearest(str(name), BROUGHT)}; allowed: {", ".join(BROUGHT)}'
            )
        if fault := fault_of(name, normalized(name, value)):
            raise InputError(f'{where}: {fault}')
