"""What verl, ms-swift and vLLM load. The only place that knows a framework's internals."""
