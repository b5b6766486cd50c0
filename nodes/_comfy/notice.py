"""Words to the user while a graph runs: in the log, and as a line of text on a node."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

logger = logging.getLogger(__name__)


def send_text(text: str, node_id: str | None) -> None:
    """A line of text on the node."""
    from server import PromptServer

    if node_id is not None and PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, node_id)


class Notice:
    """Says each thing once, in the log and on one node."""

    def __init__(self, node_id: str | None):
        self.node_id = node_id
        self._said: set[str] = set()

    @classmethod
    def of_this_node(cls) -> Notice:
        """For the node that is being executed, if one is."""
        context = get_executing_context()
        return cls(context.node_id if context else None)

    def say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            logger.warning("%s", text)
            send_text(text, self.node_id)
