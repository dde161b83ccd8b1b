"""The one kind of error that is written for the user."""


class UserError(Exception):
    """What happened, where, and what to do next, in one or two plain sentences.

    Shown as it is: by the command line with exit status 1, by the language server as a message.
    Anything else that escapes is a defect of ours and is logged with its stack.
    """
