"""A text with its entities in which one selects characters and entities; static/annotated_text.js does it."""

from collections.abc import Callable

from nicegui import ui


class AnnotatedText(ui.element, component="static/annotated_text.js"):
    """Shows what `highlighted` made, and keeps selection and focus when that is drawn anew."""

    def __init__(
        self,
        on_select: Callable[[int, int], None],
        on_choose: Callable[[int | None], None],
        on_press: Callable[[str], None],
    ) -> None:
        """`on_select` gets the span [start, end) in code points, `on_choose` an entity's number, `on_press` a key.

        Keys are 1 to 9, Delete, Backspace, Escape and the four brackets; arrows and Enter select and choose.
        """
        super().__init__()
        self.on("select", lambda event: on_select(event.args["start"], event.args["end"]))
        self.on("choose", lambda event: on_choose(event.args["entity"]))
        self.on("press", lambda event: on_press(event.args["key"]))

    def show(self, html: str) -> None:
        """Draw another text, or other entities."""
        self._props["content"] = html
