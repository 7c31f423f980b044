"""The options of the zygote: what is imported once, before the workers are forked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from se_server.options import flag, interval, option
from se_server.server.shared.lifecycle import RUNNING


def modules(raw: object) -> tuple[str, ...]:
    """Read names of modules: one, several with commas, or a list of them."""
    texts = raw if isinstance(raw, list | tuple) else [raw]
    names = [name.strip() for text in texts for name in (text if isinstance(text, str) else "").split(",")]
    for name in names:
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError("names of modules as an import has them, such as openai,google.genai")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Preload:
    """The imports of the zygote, from which workers are forked.

    Attributes:
        preload: the names of libraries.
        preload_app: whether the APP is imported there, too.
        preload_timeout_s: seconds that all of it may take.
    """

    HEADING: ClassVar[str] = RUNNING

    preload: tuple[str, ...] = option(
        (),
        modules,
        "Import these libraries once, in a process that forks the workers; may be given several times.",
        "MODULE,...",
        default_text="none",
        repeatable=True,
    )
    preload_app: bool = option(False, flag, "Import the APP there, too, and call its warm_up().")
    preload_timeout_s: float = option(
        60.0, interval, "Time that these imports may take, the APP's included.", "SECONDS", default_text="60"
    )

    @property
    def is_wanted(self) -> bool:
        """Whether workers are forked from a zygote."""
        return bool(self.preload) or self.preload_app
