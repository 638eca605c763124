"""The least that a gRPC server in Python can do: `python -m bench.bare_rpc PORT BYTES`.

Its one method takes any message and gives one of so many bytes. What it takes is the limit that other figures
are held against.
"""

import asyncio
import sys

import grpc
import uvloop


async def serve(port: int, size: int) -> None:
    """Serve until the process is ended."""
    answer = bytes(size)

    async def call(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return answer

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(call)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("bare.Bare", {"Call": handler})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print(f"serving 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
