"""Lists the fields of a class on its page, where its docstring has a line "name: ..." for each."""

import re
from typing import Any

import griffe

FIELD = re.compile(r'([a-z]\w*(?:, [a-z]\w*)*): ')


class Fields(griffe.Extension):
    """Makes a Markdown list of paragraphs that begin with a field of their class."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replaces the docstring of a class that was loaded."""
        if cls.docstring:
            paragraphs = cls.docstring.value.split('\n\n')
            names = set(cls.members)
            cls.docstring.value = '\n\n'.join(_listed(text, names) for text in paragraphs)


def _listed(paragraph: str, names: set[str]) -> str:
    """Returns a paragraph as a list if its first line begins with a field."""

    def is_field(line: str) -> bool:
        found = FIELD.match(line)
        return bool(found) and set(found[1].split(', ')) <= names

    lines = paragraph.split('\n')
    if not is_field(lines[0]):
        return paragraph
    entries = [
        '- ' + FIELD.sub(r'`\1`: ', line, count=1) if is_field(line) else '  ' + line.strip()
        for line in lines
    ]
    return '\n'.join(entries)
