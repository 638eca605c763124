"""Temporal with its UI for the embedded stack."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from infra.component import Component
from infra.ports import LOOPBACK
from infra.temporal_binary import find_temporal

NAMESPACE = "default"
# Each workflow may have a clock of its own, and a skip takes 0.25 s rather than one.
TIME_SKIPPING = {
    "frontend.WorkflowTimeSkippingEnabled": True,
    "history.timerProcessorMaxTimeShift": "10ms",
}


class Temporal(Component):
    """A Temporal server with the namespace `default`, its data in one SQLite file."""

    name = "temporal"
    preferred_ports = (7233, 8233)

    def __init__(
        self, data_dir: Path, lock: int, *, ui: bool, time_skipping: bool, log: Callable[[str], None]
    ) -> None:
        super().__init__(data_dir, lock)
        self._ui = ui
        self._dynamic_config: dict[str, Any] = TIME_SKIPPING if time_skipping else {}
        self._tell = log

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.ports[0]}"

    @property
    def ui_url(self) -> str | None:
        return f"http://{LOOPBACK}:{self.ports[1]}" if self._ui else None

    async def prepare(self) -> Path:
        return await find_temporal(self._tell)

    def command(self, program: Path) -> Sequence[str | Path]:
        port, ui_port = self.ports
        command: list[str | Path] = [program, "server", "start-dev", "--ip", LOOPBACK, "--port", str(port)]
        command += ["--ui-port", str(ui_port)] if self._ui else ["--headless"]
        command += ["--db-filename", self.folder / "temporal.db", "--log-level", "warn"]
        for key, value in self._dynamic_config.items():
            command += ["--dynamic-config-value", f"{key}={json.dumps(value)}"]
        return command

    async def ready(self, pid: int) -> bool:
        # Asked first, since a server that is not ours would answer as well.
        if not self._listens(pid):
            return False
        try:
            client = await Client.connect(self.address)
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
        except (RPCError, RuntimeError):
            return False
        return True

    def _listens(self, pid: int) -> bool:
        wanted = set(self.ports if self._ui else self.ports[:1])
        try:
            sockets = psutil.Process(pid).net_connections(kind="tcp")
        except psutil.Error:
            return False  # it has just ended
        return wanted <= {socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN}
