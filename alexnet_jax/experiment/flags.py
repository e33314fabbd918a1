"""Settings on the command line, in the conventions of `ml_collections.config_flags`.

--config.data.batch_size=64 or --config.data.batch_size 64; booleans as --config.data.mirror and
--noconfig.data.mirror; tuples as --config.data.mean=123,117,104 or '(123,117,104)'.
"""

import argparse
import re
import textwrap
from typing import NoReturn

from alexnet_jax.experiment.settings import SETTINGS, as_text, replaces
from alexnet_jax.runtime.command_line import Parser
from alexnet_jax.runtime.errors import InputError, nearest, shown
from alexnet_jax.training.protocols import PROTOCOLS

GROUPS = tuple(dict.fromkeys(name.partition('.')[0] for name in SETTINGS))
TOPICS = (*GROUPS, 'protocols')
BOOLEANS = tuple(name for name, setting in SETTINGS.items() if isinstance(setting.default, bool))
COLUMNS = 96


class SettingsParser(Parser):
    """Parses settings in addition to its options, and explains a group of them on --help=GROUP."""

    def __init__(self, **arguments):
        super().__init__(add_help=False, **arguments)
        self.add_argument(
            '-h', '--help', action=_Help, nargs='?', metavar='GROUP',
            help=f'explain this command, or a group of settings: {", ".join(TOPICS)}',
        )  # fmt: skip

    def parse_with_settings(self, argv: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
        """Returns the options, and the settings as text by name.

        Raises:
          InputError: anything else on the command line.
        """
        options, overrides, words = self.parse_with_words(argv)
        for word in words:
            self.refuse(word)
        return options, overrides

    def parse_with_words(
        self, argv: list[str]
    ) -> tuple[argparse.Namespace, dict[str, str], list[str]]:
        """Returns the same, and the words that are neither, in their order.

        Raises:
          InputError: an unknown option.
        """
        overrides, rest = self._settings(argv)
        options, words = self.parse_known_args(rest)
        for word in words:
            if word.startswith('-'):
                self.refuse(word)
        return options, overrides, words

    def refuse(self, word: str) -> NoReturn:
        """Refuses an argument that is neither an option nor a setting.

        Raises:
          InputError: always.
        """
        if word.partition('=')[0] == '--processes':
            self.error(
                '--processes goes with train and eval; features takes --part I/N, and every other'
                ' command runs in one process'
            )
        options = [option for option in self._option_string_actions if option.startswith('--')]
        like = f'; nearest option: {nearest(word, options)}' if word.startswith('--') else ''
        self.error(f'unknown argument {shown(word)}; settings are --config.NAME=VALUE{like}')

    def _settings(self, argv: list[str]) -> tuple[dict[str, str], list[str]]:
        """Returns the settings and the other words of a command line."""
        overrides, rest, words = {}, [], iter(argv)
        for word in words:
            flag = re.fullmatch(r'--(no)?config\.([^=]+)(?:=(.*))?', word, re.DOTALL)
            if not flag:
                rest.append(word)
                continue
            no, name, text = flag.groups()
            if no:
                text = self._off(name, text)
            elif text is None and name in BOOLEANS:
                text = 'true'
            elif text is None:
                text = next(words, '--')
                if text.startswith('--'):
                    self.error(f'--config.{name} has no value; settings are --config.NAME=VALUE')
            overrides = {one: kept for one, kept in overrides.items() if not replaces(name, one)}
            overrides[name] = text
        return overrides, rest

    def _off(self, name: str, text: str | None) -> str:
        if text is not None:
            self.error(f'--noconfig.{name} has a value, {shown(text)}; allowed: none')
        if name in SETTINGS and name not in BOOLEANS:
            self.error(f'--noconfig.{name}: {name} is not true or false; {", ".join(BOOLEANS)} are')
        return 'false'


def as_flag(name: str, value: object) -> str:
    """Returns the flag that sets a setting to a value."""
    return f'--config.{name}={as_text(name, value)}'


class _Help(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        print(describe(str(values)) if values else parser.format_help().rstrip())
        parser.exit()


def describe(topic: str) -> str:
    """Returns the settings of a group as text, or the defaults of the protocols.

    Raises:
      InputError: there is no such group.
    """
    if topic == 'protocols':
        return '\n'.join([
            'Defaults of train.protocol=NAME, in place of those of the settings:', '',
            *(line for protocol in PROTOCOLS.values() for line in _protocol(protocol)),
        ])  # fmt: skip
    if topic not in GROUPS:
        raise InputError(
            f'--help is {shown(topic)}; the nearest is {nearest(topic, TOPICS)};'
            f' allowed: {", ".join(TOPICS)}'
        )
    return '\n'.join(
        line for name in SETTINGS if name.partition('.')[0] == topic for line in _setting(name)
    )


def _setting(name: str) -> list[str]:
    setting = SETTINGS[name]
    text = f'{setting.meaning}; allowed: {setting.rule.words}'
    return [
        f'--config.{name} (default: {as_text(name, setting.default) or "nothing"})',
        *textwrap.wrap(text, COLUMNS, initial_indent='    ', subsequent_indent='    '),
    ]


def _protocol(protocol) -> list[str]:
    flags = [as_flag(name, value) for name, value in protocol.settings.items()] or ['none']
    wrapper = textwrap.TextWrapper(
        COLUMNS, initial_indent='    ', subsequent_indent='    ', break_on_hyphens=False
    )
    return [f'{protocol.name} ({protocol.source})', *wrapper.wrap(' '.join(flags))]
