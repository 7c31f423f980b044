"""The APPs that the zygote has loaded: the workers that are forked from it take them, and load nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from se_server.server.config import app
from se_server.server.config.app import DEMO_APP, WARM_UP, App, app_of, check_function
from se_server.server.config.importing import load_parts
from se_server.types import Handler

_preloaded: dict[str | None, App] = {}


def preload_app(spec: str | None) -> Handler | None:
    """Load an APP for this process and those that are forked from it.

    Args:
        spec: as for `load_app`.

    Returns:
        Its `warm_up`, else that of its module; None without one.

    Raises:
        AppError: there is no such APP, or the object is not an APP; one sentence.
        AppCrashed: the APP's own code raised during its import.
    """
    if spec is None:
        _preloaded[None] = app.load_app(None)
        module = importlib.import_module(DEMO_APP)
        found: object = module
    else:
        module, found = load_parts(spec)
        _preloaded[spec] = app_of(found, spec)
    for place in (found, module):
        warm_up = place.get(WARM_UP) if isinstance(place, Mapping) else getattr(place, WARM_UP, None)
        if warm_up is not None:
            return check_function(warm_up, WARM_UP, str(spec))
    return None


def load_app(spec: str | None) -> App:
    """Return an APP that was preloaded, or load it; see `app.load_app`."""
    return _preloaded[spec] if spec in _preloaded else app.load_app(spec)
