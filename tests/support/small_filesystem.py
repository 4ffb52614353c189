"""A small ext4 on a loop device: for real full disks, failing syncs, and filesystems that die.

It is mounted in a mount namespace of this process and its children, and the loop device goes with the mount:
whatever ends the test, nothing stays behind."""

import ctypes
import fcntl
import os
import shutil
import subprocess
import time

CLONE_NEWNS = 0x20000
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32); what was not synced is lost with this flag:
NO_LOG_FLUSH = 2
_own_namespace = False


class SmallFilesystem:
    """Mounted at `path` until the test's end; skips the test where that cannot be done.

    `backing_mib`: the device promises size_mib but has room for so much only, as a thin volume."""

    def __init__(self, test, folder, size_mib, journal=True, backing_mib=None):
        if os.geteuid() != 0:
            test.skipTest("mounting a loop device needs root")
        self.test = test
        self.path = folder / "mount"
        self.path.mkdir()
        enter_namespace(test)
        image_folder = folder
        if backing_mib:
            image_folder = folder / "thin"
            image_folder.mkdir()
            self.run("mount", "-t", "tmpfs", "-o", f"size={backing_mib}m", "none", image_folder)
            test.addCleanup(subprocess.run, ["umount", "--lazy", image_folder], check=True)
        self.image = image_folder / "image"
        with open(self.image, "wb") as file:
            file.truncate(size_mib << 20)
        self.run("mkfs.ext4", "-q", "-F", "-m", "0", *([] if journal else ["-O", "^has_journal"]), self.image)
        self.mount()
        test.addCleanup(subprocess.run, ["umount", "--lazy", self.path], capture_output=True)

    def run(self, *command):
        done = subprocess.run(command, capture_output=True, text=True) if shutil.which(command[0]) else None
        if done is None or done.returncode != 0:
            self.test.skipTest(f"{command[0]} cannot be run here: {done.stderr.strip() if done else 'not installed'}")

    def mount(self):
        self.run("mount", "-o", "loop", self.image, self.path)

    def unmount(self):
        """Whoever had files open has ended; the kernel may take a moment to see it."""
        for _ in range(100):
            done = subprocess.run(["umount", self.path], capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        self.test.fail(f"umount: {done.stderr}")

    def shut_down(self):
        """As if the power failed: from now on every call fails, and nothing more reaches the device."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
        finally:
            os.close(folder)

    def fill(self, file, leave_bytes=0):
        """Writes to the open file until at most so much is free."""
        while True:
            free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
            size = min(max(free - leave_bytes, 0), 1 << 20)
            try:
                if size < 4096 or os.write(file, bytes(size)) == 0:
                    return
                os.fdatasync(file)  # blocks are given late: without this the next look would see them free
            except OSError:
                return


def enter_namespace(test):
    global _own_namespace
    if _own_namespace:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        test.skipTest(f"no mount namespace can be made: {os.strerror(ctypes.get_errno())}")
    # Where / is no mount (in a chroot) this fails: mounts are seen outside, too, until the test ends.
    subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    _own_namespace = True


def small_filesystem(test, folder, size_mib):
    return SmallFilesystem(test, folder, size_mib).path
