"""CPU and memory of processes, from /proc."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid: int) -> Iterator[int]:
    """The processes that `pid` has started and that live."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(_fields(int(entry.name))[1]) == pid:
                    yield int(entry.name)
            except (FileNotFoundError, ProcessLookupError):
                continue


def family_cpu_seconds(pid: int) -> float:
    """Of a process, its children that live, and those that have ended: PostgreSQL from its postmaster down."""
    fields = _fields(pid)
    used = sum(int(field) for field in fields[11:15]) / TICKS
    for child in children(pid):
        try:
            used += cpu_seconds(child)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return used


def resident_bytes(pid: int) -> int:
    """What of a process is in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def postmaster(data_folder: Path) -> int:
    """The first process of the PostgreSQL that has its data there."""
    return int((data_folder / "postmaster.pid").read_text().split("\n", 1)[0])
