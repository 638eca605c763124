"""gRPC beside REST: one more way to the same reads and the same intake, in the same process and event loop.

`optimizer_pb2` is generated from `proto/optimizer.proto` by `make proto`, and committed: so neither an
install nor a type check needs a compiler, and whoever reads a change of the protocol sees what it does. A
test generates it anew and compares.
"""
