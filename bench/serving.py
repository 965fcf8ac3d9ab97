"""Requests a second and their latency: the embedded model server over gRPC and REST, against the SavedModel in process.

`python -m bench.serving [--seconds 4]`. Batches of 1 and 32 serialized tf.Examples, 1 and 8 clients at a time. The
clients are a process of their own that sends ready-made bytes, so that the server is what is measured; on two cores
they take one of them all the same. A `tensorflow_model_server` on PATH is measured in the same run. The CPU time of
the answering process per request is the number that a busy machine falsifies least. Below the table are the goals for
the embedded server, met or MISSED.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

BATCHES, CLIENTS = (1, 32), (1, 8)
PATIENCE = 120.0
EMBEDDED, REAL = "ctd serve", "tensorflow_model_server"
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True)
class Row:
    """How one way of asking went."""

    how: str
    batch: int
    clients: int
    rate: float  # requests a second
    p50: float  # milliseconds
    p99: float
    cpu: float  # microseconds a request

    def __str__(self) -> str:
        return (
            f"| {self.how} | {self.batch} | {self.clients} | {self.rate:,.0f} | {self.rate * self.batch:,.0f} "
            f"| {self.p50:.2f} | {self.p99:.2f} | {self.cpu:,.0f} |"
        )


@dataclass(frozen=True)
class Served:
    """What a server took beside its answers."""

    first_answer: float  # seconds
    megabytes: float  # after the last answer


@dataclass(frozen=True)
class Goal:
    """What the embedded server is to reach."""

    what: str
    measured: float
    limit: float
    unit: str
    at_least: bool = False

    def __str__(self) -> str:
        met = self.measured >= self.limit if self.at_least else self.measured < self.limit
        wanted = f"{'at least' if self.at_least else 'less than'} {self.limit:,g} {self.unit}"
        return f"{self.what:<44} {self.measured:>9,.2f} {self.unit:<4} {wanted:>20} {'met' if met else 'MISSED'}"


def goals(rows: Sequence[Row], served: Served) -> tuple[Goal, ...]:
    """The goals, with what was measured of the embedded server."""
    row = next(row for row in rows if (row.how, row.batch, row.clients) == (f"{EMBEDDED}, gRPC", 1, 8))
    return (
        Goal("gRPC requests/s, one Example, 8 clients", row.rate, 2500, "", at_least=True),
        Goal("their 99th percentile", row.p99, 7, "ms"),
        Goal("from the command to the first answer", served.first_answer, 3, "s"),
        Goal("memory after the last answer", served.megabytes, 400, "MB"),
    )


def hammer(how: str, batch: int, asks: Sequence[Callable[[], object]], seconds: float, answering: int = 0) -> Row:
    """Every client asks as fast as it is answered; what happens in the first tenth does not count."""
    started = time.perf_counter()
    since, until = started + seconds / 10, started + seconds * 1.1

    def client(ask: Callable[[], object]) -> list[float]:
        taken = []
        while (before := time.perf_counter()) < until:
            ask()
            if before >= since:
                taken.append(time.perf_counter() - before)
        return taken

    before = sum(psutil.Process(answering or None).cpu_times()[:2])
    with ThreadPoolExecutor(len(asks)) as pool:
        latencies = [taken for each in pool.map(client, asks) for taken in each]
    cpu = (sum(psutil.Process(answering or None).cpu_times()[:2]) - before) / 1.1  # the first tenth is in it
    cuts = statistics.quantiles(latencies, n=100)
    rate, of_each = len(latencies) / seconds, cpu / len(latencies)
    return Row(how, batch, len(asks), rate, cuts[49] * 1e3, cuts[98] * 1e3, of_each * 1e6)


# What runs in processes of its own: `python -m bench.serving PART ...`


def build(directory: str) -> None:
    """A model as pipelines make them: Examples with four features, a vocabulary by hash, three dense layers."""
    tf = importlib.import_module("tensorflow")

    class Taxi(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            sizes = (19, 64, 32, 1)
            draw = tf.random.Generator.from_seed(1)
            self.table = tf.Variable(draw.normal((100, 16)))
            self.layers = [tf.Variable(draw.normal(shape, stddev=0.2)) for shape in itertools.pairwise(sizes)]

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
        def serve(self, examples: Any) -> dict[str, Any]:
            numbers = ("fare", "miles", "hour")
            spec = {name: tf.io.FixedLenFeature([1], tf.float32) for name in numbers}
            read = tf.io.parse_example(examples, {**spec, "company": tf.io.FixedLenFeature([], tf.string)})
            company = tf.gather(self.table, tf.strings.to_hash_bucket_fast(read["company"], 100))
            x = tf.concat([*((read[name] - 5.0) / 3.0 for name in numbers), company], axis=1)
            for layer in self.layers[:-1]:
                x = tf.nn.relu(x @ layer)
            return {"tips": tf.sigmoid(x @ self.layers[-1])}

    module = Taxi()
    tf.saved_model.save(module, directory, signatures={"serving_default": module.serve})
    features = {
        name: tf.train.Feature(float_list=tf.train.FloatList(value=[7.5])) for name in ("fare", "miles", "hour")
    }
    features["company"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"Flash Cab"]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    Path(directory, "example").write_bytes(example.SerializeToString())


def in_process(directory: str, seconds: str) -> None:
    """Call the model's signature here, without a server."""
    tf = importlib.import_module("tensorflow")
    signature = tf.saved_model.load(directory).signatures["serving_default"]
    example = Path(directory, "example").read_bytes()
    for batch in BATCHES:
        records = [example] * batch

        def ask(records: list[bytes] = records) -> None:
            signature(examples=tf.constant(records))["tips"].numpy()

        ask()
        for clients in CLIENTS:
            tell(hammer("SavedModel in process", batch, [ask] * clients, float(seconds)))


def load(name: str, directory: str, ports: str, pid: str, seconds: str) -> None:
    """Be the clients of a server."""
    example = Path(directory, "example").read_bytes()
    for protocol, make in (("gRPC", grpc_asker), ("REST", rest_asker)):
        for batch in BATCHES:
            for clients in CLIENTS:
                with contextlib.ExitStack() as stack:
                    port = int(ports.split(",")[protocol == "REST"])
                    asks = [make(stack, port, [example] * batch) for _ in range(clients)]
                    tell(hammer(f"{name}, {protocol}", batch, asks, float(seconds), int(pid)))


def tell(row: Row) -> None:
    """Hand a row to the process that makes the table."""
    print(json.dumps(asdict(row)), flush=True)


def grpc_asker(stack: contextlib.ExitStack, port: int, records: list[bytes]) -> Callable[[], object]:
    partial_import = importlib.import_module("ctd.core.partial_import")
    partial_import.install(("tensorflow_serving.apis.predict_pb2",))
    grpc, apis = (importlib.import_module(name) for name in ("grpc", "tensorflow_serving.apis.predict_pb2"))
    request = apis.PredictRequest()
    request.model_spec.name = "m"
    tensor = request.inputs["examples"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add().size = len(records)
    tensor.string_val.extend(records)
    body = request.SerializeToString()
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))  # a connection for each client
    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options))
    call = channel.unary_unary(PREDICT)
    answer = apis.PredictResponse.FromString(call(body, timeout=PATIENCE))
    check(len(answer.outputs["tips"].float_val), len(records))
    return lambda: call(body)


def check(answers: int, records: int) -> None:
    if answers != records:
        raise SystemExit(f"{answers} answers to {records} examples: this measures nothing")


def rest_asker(stack: contextlib.ExitStack, port: int, records: list[bytes]) -> Callable[[], object]:
    instances = [{"b64": base64.b64encode(record).decode()} for record in records]
    body = json.dumps({"instances": instances}).encode()
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    message = head.encode() + body

    def ask() -> bytes:
        connection.sendall(message)
        got = b""
        while b"\r\n\r\n" not in got:
            got += connection.recv(65536)
        head, _, answer = got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(answer) < length:
            answer += connection.recv(65536)
        return answer

    check(len(json.loads(ask())["predictions"]), len(records))
    return ask


# The benchmark itself


@contextlib.contextmanager
def server(command: list[str], base: Path) -> Iterator[tuple[psutil.Popen, int, int, float]]:
    """A server with the model: its process, its two ports, and the seconds to its first answer."""
    grpc_port, rest_port = free_port(), free_port()
    flags = [f"--port={grpc_port}", f"--rest_api_port={rest_port}", "--model_name=m", f"--model_base_path={base}"]
    began = time.perf_counter()
    process = psutil.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                rest_asker(stack, rest_port, [Path(base, "1", "example").read_bytes()])()
                break
            if process.poll() is not None or time.perf_counter() > began + PATIENCE:
                raise SystemExit(f"{command[-1]} does not answer")
            time.sleep(0.01)
        yield process, grpc_port, rest_port, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def part(*arguments: str) -> list[Row]:
    """Run a part, and show its rows as they come."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "bench.serving", *arguments]
    rows = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
        for line in running.stdout or ():
            rows.append(Row(**json.loads(line)))
            print(rows[-1], flush=True)
    if running.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {running.returncode}")
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each line")
    chosen = parser.parse_args(arguments)
    print(f"load before: {', '.join(f'{each:.2f}' for each in os.getloadavg())}; cores: {os.cpu_count()}\n", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, "m")
        part("build", str(base / "1"))
        print(
            "| how | batch | clients | requests/s | examples/s | p50 ms | p99 ms | CPU us/request |\n"
            + "|---" * 8
            + "|",
            flush=True,
        )
        part("in_process", str(base / "1"), str(chosen.seconds))
        notes, rows, took = [], list[Row](), dict[str, Served]()
        commands = [(EMBEDDED, [sys.executable, "-m", "ctd.serving"])]
        if real := shutil.which(REAL):
            commands.append((REAL, [real]))
        for name, command in commands:
            with server(command, base) as (process, grpc_port, rest_port, seconds):
                ports, pid = f"{grpc_port},{rest_port}", str(process.pid)
                rows += part("load", name, str(base / "1"), ports, pid, str(chosen.seconds))
                took[name] = Served(seconds, process.memory_info().rss / 2**20)
                megabytes = took[name].megabytes
                notes.append(f"{name}: first answer after {seconds:.2f} s; {megabytes:.0f} MB after the last")
        print("\n" + "\n".join(notes) + "\n")
        print("\n".join(map(str, goals(rows, took[EMBEDDED]))) + "\n")
    print(f"load after: {', '.join(f'{each:.2f}' for each in os.getloadavg())}")


PARTS: dict[str, Callable[..., None]] = {"build": build, "in_process": in_process, "load": load}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        PARTS[sys.argv[1]](*sys.argv[2:])
    else:
        main()
