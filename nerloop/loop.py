"""The collaborators of a process, made once from its settings and passed on as one. Owns the wiring, nothing else.

Each is imported when it is first used: torch and MLflow cost seconds that most commands need not pay.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from redis import Redis

from nerloop.jobs import Jobs, connect_redis
from nerloop.project_state import ProjectState
from nerloop.settings import Settings

if TYPE_CHECKING:
    from nerloop.known_terms import KnownTerms
    from nerloop.label_studio import LabelStudio
    from nerloop.registry import Registry
    from nerloop.serving import ServingModels


@dataclass(frozen=True)
class Loop:
    """Label Studio, registry, Redis and models behind the settings."""

    settings: Settings

    @cached_property
    def label_studio(self) -> "LabelStudio":
        """The door to Label Studio; raises `LabelStudioUnauthorized` where no token is set."""
        from nerloop.label_studio import LabelStudio

        return LabelStudio(self.settings.label_studio_url, self.settings.label_studio_api_key)

    @cached_property
    def registry(self) -> "Registry":
        """The door to the model registry."""
        from nerloop.registry import Registry

        return Registry(self.settings.registry_address, self.settings.artifacts)

    @cached_property
    def redis(self) -> Redis:
        """The connection that state and jobs share."""
        return connect_redis(self.settings)

    @cached_property
    def state(self) -> ProjectState:
        """Our own keys in Redis."""
        return ProjectState(self.redis)

    @cached_property
    def jobs(self) -> Jobs:
        """The queues."""
        return Jobs(self.redis, self.settings)

    @cached_property
    def serving(self) -> "ServingModels":
        """The models this process holds."""
        from nerloop.serving import ServingModels

        settings = self.settings
        return ServingModels(self.registry, settings.checkpoint_cache, settings.model_memory_mb * 1_000_000)

    @cached_property
    def terms(self) -> "KnownTerms":
        """What this process proposes beside its models."""
        from nerloop.known_terms import KnownTerms

        return KnownTerms(self.state, self.settings)
