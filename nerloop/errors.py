"""What can go wrong, as one tree. Owns the classes; the message is written where the facts are known.

NerLoopError
├── BadInput                the caller's data or arguments; names the field and the fix
│   └── BadLabelConfig      a labelling config this product cannot pre-annotate
├── SettingsError           a setting is missing or malformed
├── LabelStudioError        Label Studio answered with an error
│   ├── LabelStudioUnreachable
│   ├── LabelStudioUnauthorized
│   └── ProjectNotFound
├── RegistryError           the model registry is unreachable or inconsistent
│   ├── CheckpointCorrupt   files are missing or their sha256 differs
│   └── FilesRemoved        retention has removed a version's checkpoint
├── HubError                ModelScope's hub is unreachable or refuses
└── QueueUnreachable        Redis does not answer
"""


class NerLoopError(Exception):
    """Root of every error the product raises on purpose; its message is fit for a user."""


class BadInput(NerLoopError):
    """Data or arguments from outside are wrong."""


class BadLabelConfig(BadInput):
    """The labelling config has no `<Labels>` on a `<Text>` that can be pre-annotated."""


class SettingsError(NerLoopError):
    """A setting is missing or malformed."""


class LabelStudioError(NerLoopError):
    """Label Studio answered with an error."""


class LabelStudioUnreachable(LabelStudioError):
    """Label Studio does not answer at its address."""


class LabelStudioUnauthorized(LabelStudioError):
    """Label Studio refuses the token."""


class ProjectNotFound(LabelStudioError):
    """The project does not exist, or the token's owner may not see it."""


class RegistryError(NerLoopError):
    """The model registry is unreachable or holds something unexpected."""


class CheckpointCorrupt(RegistryError):
    """A checkpoint's files are missing or differ from their sha256 sums."""


class FilesRemoved(RegistryError):
    """The version is known, but retention has removed its checkpoint."""


class HubError(NerLoopError):
    """ModelScope's hub is unreachable, does not have what is asked for, or refuses it."""


class QueueUnreachable(NerLoopError):
    """Redis does not answer at its address."""
