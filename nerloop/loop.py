"""The collaborators of a process, made once from its settings and passed on as one. Owns the wiring, nothing else."""

from dataclasses import dataclass
from functools import cached_property

from redis import Redis

from nerloop.jobs import Jobs, connect_redis
from nerloop.label_studio import LabelStudio
from nerloop.project_state import ProjectState
from nerloop.registry import Registry
from nerloop.serving import ServingModels
from nerloop.settings import Settings


@dataclass(frozen=True)
class Loop:
    """Label Studio, registry, Redis and models behind the settings; each is built when it is first used."""

    settings: Settings

    @cached_property
    def label_studio(self) -> LabelStudio:
        """The door to Label Studio; raises `LabelStudioUnauthorized` where no token is set."""
        return LabelStudio(self.settings.label_studio_url, self.settings.label_studio_api_key)

    @cached_property
    def registry(self) -> Registry:
        """The door to the model registry."""
        return Registry(self.settings.registry_address, self.settings.artifacts)

    @cached_property
    def redis(self) -> Redis:
        """The connection that state and jobs share."""
        return connect_redis(self.settings)

    @cached_property
    def state(self) -> ProjectState:
        """Our own keys in Redis."""
        return ProjectState(self.redis, self.settings)

    @cached_property
    def jobs(self) -> Jobs:
        """The queues."""
        return Jobs(self.redis, self.settings)

    @cached_property
    def serving(self) -> ServingModels:
        """The models this process holds."""
        return ServingModels(self.registry, self.settings.checkpoint_cache)
