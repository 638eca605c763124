"""The protocol: its Python is what the compiler makes of it, and clients built before are not broken."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from tests.api.compatibility import additions, breaks, present, released
from tests.specification.blocks import blocks, section

ROOT = Path(__file__).parents[2]
Change = Callable[[FileDescriptorProto], None]


def compiled(source: Path, folder: Path, *options: str) -> None:
    plugin = f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}"
    command = [sys.executable, "-m", "grpc_tools.protoc", plugin, f"-I{source.parent}", *options, source.name]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_the_committed_python_is_fresh(tmp_path: Path) -> None:
    compiled(ROOT / "proto" / "optimizer.proto", tmp_path, "--python_out=.", "--mypy_out=.")
    for name in ("optimizer_pb2.py", "optimizer_pb2.pyi"):
        made = (tmp_path / name).read_text(encoding="utf-8")
        assert made == (ROOT / "api" / "grpc" / name).read_text(encoding="utf-8"), "run `make proto`"


def test_nothing_that_was_released_means_something_else() -> None:
    assert breaks(released(), present()) == []
    assert additions(released(), present()) == [], "run `make proto`"


def test_a_client_of_the_specification_is_served(tmp_path: Path) -> None:
    """Its own text, with the messages that it leaves open as empty ones."""
    (block,) = blocks("protobuf", section("### 4.4", "## 5. "))
    left_open = ("LLMConfig", "Metric", "MetricsResponse", "ConfigStreamRequest")
    source = tmp_path / "specified.proto"
    text = block + "".join(f"message {name} {{}}\n" for name in left_open)
    source.write_text(text, encoding="utf-8")
    compiled(source, tmp_path, "--descriptor_set_out=set")
    (specified,) = FileDescriptorSet.FromString((tmp_path / "set").read_bytes()).file
    assert breaks(specified, present()) == []


def message(file: FileDescriptorProto, name: str = "Metric") -> DescriptorProto:
    return next(found for found in file.message_type if found.name == name)


def field(file: FileDescriptorProto, name: str = "cost_usd") -> FieldDescriptorProto:
    return next(found for found in message(file).field if found.name == name)


def renumber(file: FileDescriptorProto) -> None:
    field(file).number = 50


def retype(file: FileDescriptorProto) -> None:
    field(file).type = FieldDescriptorProto.TYPE_FLOAT


def rename(file: FileDescriptorProto) -> None:
    field(file).name = "cost"


def repeat(file: FileDescriptorProto) -> None:
    field(file, "model").label = FieldDescriptorProto.LABEL_REPEATED


def require(file: FileDescriptorProto) -> None:
    field(file).proto3_optional = False
    field(file).ClearField("oneof_index")


def swap(file: FileDescriptorProto) -> None:
    field(file, "model").number, field(file, "provider").number = 5, 4


def drop(file: FileDescriptorProto) -> None:
    message(file).field.remove(field(file))


def drop_message(file: FileDescriptorProto) -> None:
    file.message_type.remove(message(file))


def retype_nested(file: FileDescriptorProto) -> None:
    message(file).nested_type[0].field[1].type = FieldDescriptorProto.TYPE_BYTES


def reuse(file: FileDescriptorProto) -> None:
    message(file, "ConfigResponse").field.add(name="etag", number=3, type=FieldDescriptorProto.TYPE_STRING)


def drop_method(file: FileDescriptorProto) -> None:
    del file.service[0].method[0]


def stream_method(file: FileDescriptorProto) -> None:
    file.service[0].method[0].server_streaming = True


def move(file: FileDescriptorProto) -> None:
    file.package = "optimizer.v2"


BREAKING: list[Change] = [
    *(renumber, retype, rename, repeat, require, swap, drop, drop_message, retype_nested, reuse),
    *(drop_method, stream_method, move),
]


@pytest.mark.parametrize("change", BREAKING, ids=lambda change: change.__name__)
def test_a_change_that_breaks_clients_is_found(change: Change) -> None:
    changed = present()
    change(changed)
    assert breaks(present(), changed)


def test_what_clients_need_not_know_may_be_added_and_what_went_is_reserved() -> None:
    changed = present()
    message(changed).field.add(name="region", number=15, type=FieldDescriptorProto.TYPE_STRING)
    changed.message_type.add(name="New")
    changed.service[0].method.add(name="Newer", input_type=".optimizer.New", output_type=".optimizer.New")
    drop(changed)
    message(changed).reserved_range.add(start=10, end=11)
    message(changed).reserved_name.append("cost_usd")
    assert breaks(present(), changed) == []
    assert len(additions(present(), changed)) == 5
