"""A real full disk: a small ext4 on a loop device."""

import os
import shutil
import subprocess


def small_filesystem(test, folder, size_mib):
    """Mounted until the test's end; skips the test where that cannot be done."""
    if os.geteuid() != 0:
        test.skipTest("mounting a loop device needs root")
    mount, image = folder / "mount", folder / "image"
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(size_mib << 20)
    make = ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
    for command in (make, ["mount", "-o", "loop", str(image), str(mount)]):
        done = subprocess.run(command, capture_output=True, text=True) if shutil.which(command[0]) else None
        if done is None or done.returncode != 0:
            test.skipTest(f"{command[0]} cannot be run here")
    test.addCleanup(subprocess.run, ["umount", "--lazy", str(mount)], check=True)
    return mount
