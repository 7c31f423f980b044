"""The number of CPUs that this process may use."""

from __future__ import annotations

import math
import os


def usable_cpus() -> int:
    """Count the CPUs this process may use: its affinity, bounded by the quota of its control group.

    The quota is read from the group that is visible as root, which under Docker and Kubernetes is the container's.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13: affinity, and -X cpu_count
        cpus = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, min(cpus, math.ceil(quota))) if quota else max(1, cpus)


def cpu_quota(root: str = "/sys/fs/cgroup") -> float | None:
    """Read the CPU quota of the control group, in CPUs; None if there is no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        words: list[str] = []
        try:
            for name in names:
                with open(f"{root}/{name}", encoding="ascii") as file:
                    words += file.read().split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):  # another version of control groups, none, or "max"
            continue
        if quota > 0 and period > 0:
            return quota / period
    return None
