"""penchant learns what each person wants from whatever feedback they leave, and shows honestly whether it worked."""

__version__ = "0.1.0.dev0"
