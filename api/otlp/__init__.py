"""OpenTelemetry's protocol: spans and metrics of calls, over HTTP and gRPC."""
