"""What a change of the protocol would break for clients that were built before it.

`released.binpb` beside the protocol is its descriptor as clients have it. `make proto` renews it, by
`python -m tests.api.compatibility`, which refuses to where something would break.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from api.grpc.optimizer_pb2 import DESCRIPTOR

RELEASED = Path(__file__).parents[2] / "proto" / "released.binpb"


def present() -> FileDescriptorProto:
    """The protocol as it is."""
    found = FileDescriptorProto()
    DESCRIPTOR.CopyToProto(found)
    return found


def released() -> FileDescriptorProto:
    """The protocol as clients have it."""
    return FileDescriptorProto.FromString(RELEASED.read_bytes())


def breaks(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """Everything in which the new does not mean what the old did."""
    messages = _messages(old.message_type, new.message_type, old.package)
    return [*_file(old, new), *_services(old, new), *messages]


def additions(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """What the new has and the old had not: what would break, were the new the old."""
    return breaks(new, old)


def _file(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    if (old.package, old.syntax) != (new.package, new.syntax):
        yield "the package or the syntax is another"


def _services(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    services = {service.name: {method.name: method for method in service.method} for service in new.service}
    for service in old.service:
        for method in service.method:
            found = services.get(service.name, {}).get(method.name)
            if found is None:
                yield f"{service.name}.{method.name} is gone"
            elif _meaning_of_method(method) != _meaning_of_method(found):
                yield f"{service.name}.{method.name} takes or gives another message"


def _meaning_of_method(method: MethodDescriptorProto) -> tuple[str, str, bool, bool]:
    return method.input_type, method.output_type, method.client_streaming, method.server_streaming


def _messages(old: Iterable[DescriptorProto], new: Iterable[DescriptorProto], path: str) -> Iterator[str]:
    known = {message.name: message for message in new}
    for message in old:
        name = f"{path}.{message.name}"
        if message.name not in known:
            yield f"{name} is gone"
            continue
        yield from _fields(message, known[message.name], name)
        yield from _messages(message.nested_type, known[message.name].nested_type, name)


def _fields(old: DescriptorProto, new: DescriptorProto, path: str) -> Iterator[str]:
    known = {field.number: field for field in new.field}
    for field in old.field:
        name, found = f"{path}.{field.name}", known.get(field.number)
        if found is not None:
            if _meaning(field, old) != _meaning(found, new):
                yield f"{name} = {field.number} means something else"
        elif not _reserved(new, field):
            yield f"{name} = {field.number} is gone and not reserved, by number and by name"
    for reserved in old.reserved_range:
        for number in range(reserved.start, reserved.end):
            if number in known:
                yield f"{path}: {number} is used again"
    for reserved_name in old.reserved_name:
        if any(field.name == reserved_name for field in new.field):
            yield f"{path}: {reserved_name} is used again"


def _meaning(field: FieldDescriptorProto, message: DescriptorProto) -> tuple[object, ...]:
    oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
    return field.name, field.type, field.type_name, field.label, field.proto3_optional, oneof


def _reserved(message: DescriptorProto, field: FieldDescriptorProto) -> bool:
    numbered = any(kept.start <= field.number < kept.end for kept in message.reserved_range)
    return numbered and field.name in message.reserved_name


def main() -> int:
    """Renew the released protocol."""
    wrong = breaks(released(), present()) if RELEASED.exists() else []
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    if not wrong:
        RELEASED.write_bytes(present().SerializeToString(deterministic=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
