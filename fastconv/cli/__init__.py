"""The command line: the only part of fastconv that prints. See `fastconv.cli.main`."""
