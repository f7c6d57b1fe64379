"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something the user can mend: one line that names the thing at fault and what to do about it.

    Command lines print it on stderr without a traceback and exit with 2.
    """
