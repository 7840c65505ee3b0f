"""The one exception for a user's mistake: shown as a single message, without a traceback."""


class UserError(Exception):
    """A wrong input: says what was found, where, what was expected and what to do."""
