import pytest
from fastapi import Request

from console.layout import View, look_of
from console.texts import Texts


def request(cookies):
    return Request({"type": "http", "headers": [(b"cookie", cookies.encode())]})


@pytest.mark.parametrize(
    ("zone", "shown"), [("Asia/Shanghai", "2026-11-27 02:30"), ("America/New_York", "2026-11-26 13:30")]
)
def test_times_are_those_of_whoever_is_looking(zone, shown):
    look = look_of(request(f"nerloop_zone={zone}"))
    view = View(None, None, "lina", "viewer", Texts("zh"), look)

    assert view.local_time("2026-11-26T18:30:00+00:00") == shown
    assert view.local_time(None) == "–"


@pytest.mark.parametrize("zone", ["", "/etc/passwd", "../UTC", "Asia", "Nowhere/Land"])
def test_a_time_zone_that_nobody_knows_is_none(zone):
    assert look_of(request(f"nerloop_zone={zone}; nerloop_theme=neon")).zone is None
