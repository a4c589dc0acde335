"""What a measurement was made on, in words that name no machine."""
import os
import re
import subprocess
import time


def flush_us(path):
    """What the disk asks for one flush of 4 KiB: the median, microseconds."""
    name, took = os.path.join(path, "flush"), []
    fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o600)
    for i in range(101):
        os.pwrite(fd, bytes([i]) * 4096, 4096 * i)
        begin = time.monotonic()
        os.fdatasync(fd)
        took.append((time.monotonic() - begin) * 1e6)
    os.close(fd)
    os.unlink(name)
    return sorted(took)[50]


def disk(path):
    row = subprocess.run(["findmnt", "-nro", "FSTYPE,SOURCE", "-T", path], capture_output=True, text=True).stdout.split()
    fs, source = (row + ["?", "?"])[:2]
    device = re.sub(r"^/dev/|\[.*", "", source)
    kind = "virtual disk" if device.startswith("vd") else "disk"
    try:
        parent = device if os.path.exists(f"/sys/block/{device}") else re.sub(r"p?\d+$", "", device)
        with open(f"/sys/block/{parent}/queue/rotational") as f:
            kind = kind if device.startswith("vd") else "hard disk" if f.read().strip() == "1" else "solid state disk"
    except OSError:
        pass
    return f"{fs} on a {kind}, a flush takes {flush_us(path):.0f} us"


def words(path):
    with open("/proc/cpuinfo") as f:
        cpu = re.search(r"model name\s*: (.*)", f.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    name = re.sub(r"\((R|TM)\)|CPU|Processor|\s+(?=\s)", "", cpu.group(1)) if cpu else os.uname().machine
    return (f"{time.strftime('%Y-%m-%d', time.gmtime())}; {os.cpu_count()} cores ({' '.join(name.split())}), {memory:.0f} GiB; "
            f"{disk(path)}; Linux {os.uname().release.split('-')[0]}; load {load:.1f} when it began")
