"""`python -m penchant`, which `torchrun -m penchant` needs."""

from penchant.cli import main

main()
