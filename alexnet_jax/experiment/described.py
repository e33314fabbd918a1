"""Net, protocol and initial layers that a configuration describes."""

from alexnet_jax.experiment import own_parts
from alexnet_jax.experiment.defaults import Config
from alexnet_jax.experiment.settings import RATES, normalized
from alexnet_jax.network import shapes
from alexnet_jax.network.architectures import architecture, varied
from alexnet_jax.network.layers import Architecture
from alexnet_jax.runtime import python_files
from alexnet_jax.runtime.errors import InputError, shown
from alexnet_jax.training import protocols
from alexnet_jax.training.protocols import PROTOCOLS, Protocol


def network_of(config: Config) -> Architecture:
    """Returns the net that a configuration describes.

    Raises:
      InputError: the table does not allow this width, or the input is too small.
    """
    group, net = config.network, config.network.table
    if net is None and python_files.names_object(group.name):
        own = own_parts.network(group.name)
        net = varied(own, group.input_size, group.width, group.activation)
    elif net is None:
        try:
            net = architecture(group.name, group.input_size, group.width, group.activation)
        except InputError as error:
            raise InputError(f'network.width is {group.width:g}: {error}') from error
    try:
        shapes.layer_shapes(net, classes=1)
    except InputError as error:
        raise InputError(f'network.input_size is {group.input_size}: {error}') from error
    return net


def require_own_table(config: Config, net: Architecture) -> None:
    """Checks that the settings match the table of the configuration.

    Raises:
      InputError: they belong to another table.
    """
    for name, value in {'network.name': net.name, 'network.input_size': net.input_size}.items():
        if config.network.table is not None and config[name] not in (value, 0):
            raise InputError(f'{name} is {shown(config[name])}; its table has {shown(value)}')


def protocol_of(config: Config, net: Architecture) -> Protocol:
    """Returns the protocol that a configuration describes, for that net.

    Raises:
      InputError: `optimizer.layer_rates` names another layer.
    """
    rates = normalized(RATES, config[RATES])
    protocols.require_layers(RATES, list(rates), net.layer_names)
    return protocols.with_layer_rates(base_protocol(config), rates)


def base_protocol(config: Config) -> Protocol:
    """Returns the protocol of a configuration, without `optimizer.layer_rates`.

    Raises:
      InputError: it is a user's own protocol that cannot be loaded.
    """
    name, table = config.train.protocol, config.train.table
    if table is not None:
        return table
    return own_parts.protocol(name) if python_files.names_object(name) else PROTOCOLS[name]


def start_layers(config: Config, net: Architecture) -> tuple[str, ...]:
    """Returns the layers named in `start.layers`.

    Raises:
      InputError: the net has no such layer; a layer is named twice; `start.from` is empty.
    """
    names = config.start.layers
    protocols.require_layers('start.layers', names, net.layer_names)
    if names and not config.start['from']:
        raise InputError(
            f'start.layers is {shown(names)}; allowed: nothing, as start.from is nothing'
        )
    return names
