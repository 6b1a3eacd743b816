"""`edgesteer undrain`: as `drain`, the other way."""

from pipeline.cli.drain import undrain as command

__all__ = ["command"]
