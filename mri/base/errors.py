"""The exception for mistakes of the user."""


class UserError(Exception):
    """Something the user can correct; the message is one line that names what is wrong and what to do.

    Command lines print it to stderr without a traceback and exit with 2.
    """
