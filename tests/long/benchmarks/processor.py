"""Processor time of a process, counted by the kernel."""

import time


def seconds_used(pid: int) -> float:
    """Return the processor seconds of all threads of a process, in user mode and in the kernel."""
    return time.clock_gettime((~pid << 3) | 2)  # the clock of clock_getcpuclockid(3)
