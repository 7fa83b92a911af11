"""The commands of `jaxmeta.cli`, one module each."""
