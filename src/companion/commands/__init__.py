"""The `companion` command: what its words do; `app` reads them."""
