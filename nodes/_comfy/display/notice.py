"""Words to the user while a graph runs: in the log, and as a line of text on a node."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

logger = logging.getLogger(__name__)


def this_node() -> str | None:
    """The number of the node that is being executed, None outside a graph."""
    context = get_executing_context()
    return context.node_id if context else None


def send_text(text: str, node_id: str | None) -> None:
    """A line of text on the node."""
    if node_id is None:
        return
    from server import PromptServer  # a part of the running server, which tests of single nodes do without

    if PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, node_id)


def say(text: str) -> None:
    """A line of text on the node that is being executed."""
    send_text(text, this_node())


class Notice:
    """Says each thing once, in the log and on one node."""

    def __init__(self, node_id: str | None):
        self.node_id = node_id
        self._said: set[str] = set()

    @classmethod
    def of_this_node(cls) -> Notice:
        """For the node that is being executed, if one is."""
        return cls(this_node())

    def say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)
            send_text(text, self.node_id)
