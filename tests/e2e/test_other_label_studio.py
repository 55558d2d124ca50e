"""`nerloop up` beside a Label Studio that somebody runs already: it is used, and nothing of ours is put into it."""

import json
from pathlib import Path

import httpx

from nerloop.embedded.sandbox import Sandbox


def test_a_label_studio_that_is_there_is_used_and_keeps_its_projects(stack: Sandbox, tmp_path: Path) -> None:
    settings = stack.loop.settings
    before = [project.id for project in stack.loop.label_studio.projects()]
    other = Sandbox(
        tmp_path / "home",
        LABEL_STUDIO_URL=settings.label_studio_url,
        LABEL_STUDIO_API_KEY=settings.label_studio_api_key,
    )
    try:
        started = other.run("up", "--detach")
        status = json.loads(other.run("status", "--json").stdout)
        refused = httpx.get(f"{other.loop.settings.backend_url}/api/v1/me")

        assert "label-studio" not in status["processes"]
        assert set(status["processes"].values()) == {"RUNNING"}
        assert settings.label_studio_url in started.stdout
        assert "Password" not in started.stdout
        assert [project.id for project in stack.loop.label_studio.projects()] == before
        assert refused.status_code == 401
    finally:
        other.run("down", check=False)
