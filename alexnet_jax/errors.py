"""What the user gave cannot be used."""


class InputError(ValueError):
    """A setting, file or command that cannot be used, found before training.

    The message is one or two plain lines: what it is, its value, what is
    allowed. The program ends with exit status 2.
    """
