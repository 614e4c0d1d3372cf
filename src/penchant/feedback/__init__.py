"""Collect: what people leave behind, from files of any known format to checked records."""

from penchant.feedback.importing import Imported, read

__all__ = ["Imported", "read"]
