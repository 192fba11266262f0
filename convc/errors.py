"""The errors that convc raises: each says where, what was found, what was expected and what to do."""


def printable(text: str) -> str:
    """The text on one line: what does not print, as in names of files and layers, is escaped (`\\n`)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ConvcError(Exception):
    """Base of all errors with a cause that a user can act on.

    `hint` is a sentence that tells what to do next; it is printed after the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = printable(message)
        self.hint = printable(hint)
        super().__init__(f"{self.message} {self.hint}".strip() if hint else self.message)


class TypeRuleError(ConvcError):
    """Shapes, dtypes or attributes of a node do not fit together."""


class GraphError(ConvcError):
    """A graph breaks an invariant of the IR, or its text form does not parse."""


class ModelError(ConvcError):
    """A model file cannot be read: truncated, not ONNX, or with data that is missing or out of bounds."""


class UnsupportedError(ConvcError):
    """A model uses operators or attributes that convc has no code for; all of them are named at once."""


class TargetError(ConvcError):
    """A target is unknown, or this machine cannot produce or run code for it."""


class OptionError(ConvcError):
    """A flag or argument names something that does not exist or that cannot be done."""


class FileError(OptionError):
    """A file or folder cannot be read or written: it is absent, of another kind, not permitted, too large."""


class InputError(ConvcError):
    """An array given to a module has the wrong name, shape, dtype or number."""


class ModuleError(ConvcError):
    """A module file cannot be loaded here."""


class DeviceError(ConvcError):
    """Work with a GPU failed."""


class NoDeviceError(DeviceError):
    """There is no GPU here, no driver for it, or none of that number."""


class WrongDeviceError(DeviceError):
    """The GPU is of another architecture than the one that a module was compiled for."""


class DriverError(DeviceError):
    """The GPU's driver is too old, or does not work."""


class DeviceMemoryError(DeviceError):
    """The GPU has less free memory than is needed."""


class CompileError(ConvcError):
    """Code generation or linking failed."""


class VerificationError(ConvcError):
    """A compiled module does not agree with the float64 reference of its graph."""


class DatabaseError(ConvcError):
    """A tuning database, or an export of one, cannot be opened, read or written."""
