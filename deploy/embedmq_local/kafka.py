"""How is a real Kafka broker set up and started on this machine?"""

from __future__ import annotations

import base64
import socket
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedmq_local.port import HOST, Port
from embedmq_local.process import Process
from embedmq_local.server import Server

FORMAT_TIMEOUT_S = 60.0
SOCKET_TIMEOUT_S = 2.0
JVM = ("-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true")
# Nothing outside the stack's folder, and an end that is seen.
JVM_TIDY = ("-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError")
LOG4J = """\
<Configuration status="WARN">
  <Appenders>
    <RollingFile name="file" fileName="${sys:embedmq.log}" filePattern="${sys:embedmq.log}.%i">
      <PatternLayout pattern="%d %p %m (%c)%n"/>
      <SizeBasedTriggeringPolicy size="20MB"/>
      <DefaultRolloverStrategy max="1"/>
    </RollingFile>
  </Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="file"/></Root></Loggers>
</Configuration>
"""


@dataclass(frozen=True)
class Jvm:
    """What runs Kafka: the Java program and Kafka's class path."""

    java: str
    classpath: str


@dataclass(frozen=True)
class Besides:
    """What one broker has besides: listeners, by name with their protocol (`SASL_SSL`), settings, and options of its
    formatting, which is when users of SCRAM are made.
    """

    listeners: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    format_options: Sequence[str] = ()


class Broker(Server):
    """One node of a KRaft cluster, broker and controller in one process."""

    def __init__(
        self,
        node: int,
        jvm: Jvm,
        cluster: str,
        folder: Path,
        scratch: Path | None,
        front: str | None = None,
        besides: Besides | None = None,
    ) -> None:
        """`front`: the address of a proxy in front of a second listener, which is at `behind`. The listeners of
        `besides` are at `listeners`.
        """
        super().__init__(f"kafka-{node}", folder, scratch)
        self.node = node
        self.controller = Port()
        self.front = front
        self.behind = Port() if front else None
        self.besides = besides or Besides()
        self.listeners = {name: Port() for name in self.besides.listeners}
        self._jvm = jvm
        self._cluster = cluster
        self._folder = folder / self.name

    def configure(self, brokers: Sequence[Broker]) -> None:
        """Write the settings of this node, which name every node of the cluster."""
        self._folder.mkdir(exist_ok=True)
        lines = (f"{key}={value}" for key, value in settings(self, brokers, self._folder / "data").items())
        (self._folder / "server.properties").write_text("\n".join(lines) + "\n")
        (self._folder / "log4j2.xml").write_text(LOG4J)
        self._expected = {broker.node for broker in brokers}

    def format(self) -> Process | None:
        """Start the formatting of the data folder; None where it has been done."""
        if (self._folder / "data" / "meta.properties").exists():
            return None
        file = str(self._folder / "server.properties")
        options = ["format", "-t", self._cluster, "-c", file, *self.besides.format_options]
        return Process(
            f"formatting {self.name}", self._run("kafka.tools.StorageTool", *options), self.log, scratch=self._scratch
        )

    def command(self) -> Sequence[str]:
        return self._run("kafka.Kafka", str(self._folder / "server.properties"))

    def is_ready(self) -> bool:
        return live_brokers(self.port.number) >= self._expected

    def spawn(self) -> None:
        for port in self._others():
            port.release()
        super().spawn()

    def close(self) -> None:
        for port in self._others():
            port.close()
        super().close()

    def _others(self) -> Sequence[Port]:
        return [self.controller, *([self.behind] if self.behind else []), *self.listeners.values()]

    def _run(self, main: str, *arguments: str) -> list[str]:
        places = (
            f"-Dembedmq.log={self.log}",
            f"-Dlog4j2.configurationFile={self._folder / 'log4j2.xml'}",
            f"-Djava.io.tmpdir={self._folder}",
            f"-XX:ErrorFile={self.log}.crash",
        )
        return [self._jvm.java, *JVM, *JVM_TIDY, *places, "-cp", self._jvm.classpath, main, *arguments]


def settings(broker: Broker, brokers: Sequence[Broker], data: Path) -> Mapping[str, object]:
    """The settings of one of `brokers`.

    The quorum is the static one: its addresses stand here rather than in the data, so that the same data can be started
    on other ports. See https://kafka.apache.org/43/configuration/broker-configs/ for each setting.
    """
    copies = min(3, len(brokers))
    in_sync = max(1, copies - 1)
    behind = f",FRONT://{broker.behind}" if broker.behind else ""
    front = f",FRONT://{broker.front}" if broker.front else ""
    others = "".join(f",{name}://{port}" for name, port in broker.listeners.items())
    protocols = "".join(f",{name}:{protocol}" for name, protocol in broker.besides.listeners.items())
    return {
        "process.roles": "broker,controller",
        "node.id": broker.node,
        "controller.quorum.voters": ",".join(f"{peer.node}@{peer.controller}" for peer in brokers),
        "listeners": f"PLAINTEXT://{broker.port},CONTROLLER://{broker.controller}{behind}{others}",
        "advertised.listeners": f"PLAINTEXT://{broker.port}{front}{others}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FRONT:PLAINTEXT{protocols}",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "log.cleaner.dedupe.buffer.size": 2097152,  # the default of 128 MiB would not fit the heap
        # A broker that was killed may come back once its session is over: after 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        **broker.besides.settings,
    }


def new_cluster_id() -> str:
    """As Kafka writes a UUID: base64, no padding, never a leading dash, which its tools would take for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def live_brokers(port: int) -> set[int]:
    """The node ids of the brokers that the broker at `port` knows to be up; empty if it does not answer.

    A Metadata request (key 3, version 1) for no topics: https://kafka.apache.org/protocol.html#The_Messages_Metadata
    """
    request = struct.pack(">hhihi", 3, 1, 0, -1, 0)  # key, version, correlation id, no client id, no topics
    try:
        with (
            socket.create_connection((HOST, port), SOCKET_TIMEOUT_S) as connection,
            connection.makefile("rb") as answer,
        ):
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", answer.read(4))
            body = answer.read(length)
    except (OSError, struct.error):
        return set()
    (count,) = struct.unpack_from(">i", body, 4)
    nodes, at = set[int](), 8
    for _ in range(count):
        node, host_bytes = struct.unpack_from(">ih", body, at)
        at += 6 + host_bytes + 4  # the host, then the port
        (rack_bytes,) = struct.unpack_from(">h", body, at)
        at += 2 + max(0, rack_bytes)
        nodes.add(node)
    return nodes
