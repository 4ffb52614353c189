#!/usr/bin/env python3
"""spillway_ctypes.py LIBRARY DIRECTORY: writes and reads a file through libspillway_c.so, then streams tiles.

Nothing but the standard library is needed; nothing is left behind in DIRECTORY."""

import ctypes as c
import os
import sys


class Io(c.Structure):
    _fields_ = [("size", c.c_size_t), ("file", c.c_void_p), ("offset", c.c_uint64), ("size_bytes", c.c_size_t),
                ("lease", c.c_void_p), ("lease_offset", c.c_size_t), ("memory", c.c_void_p), ("urgent", c.c_int32),
                ("deadline_ms", c.c_uint32)]


class CreateOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("size_bytes", c.c_uint64), ("overwrite", c.c_int32), ("direct", c.c_int32)]


class PoolOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("buffer_bytes", c.c_size_t), ("buffer_count", c.c_size_t),
                ("name", c.c_char_p), ("huge_pages", c.c_int32), ("lock", c.c_int32), ("registration", c.c_int32),
                ("log", c.c_void_p), ("log_context", c.c_void_p)]


class Plane(c.Structure):
    _fields_ = [("name", c.c_char_p), ("bytes_per_block", c.c_uint32), ("elements_per_block", c.c_uint32)]


class StoreOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("planes", c.POINTER(Plane)), ("plane_count", c.c_uint32),
                ("directory_count", c.c_uint32), ("directories", c.POINTER(c.c_char_p)),
                ("element_count", c.c_uint64), ("tile_elements", c.c_uint64), ("name", c.c_char_p),
                ("direct", c.c_int32), ("log", c.c_void_p), ("log_context", c.c_void_p), ("locks", c.c_void_p),
                ("lock_count", c.c_size_t)]


class Part(c.Structure):
    _fields_ = [("store", c.c_void_p), ("pool", c.c_void_p), ("access", c.c_int32), ("first_plane", c.c_uint32),
                ("plane_count", c.c_uint32)]


class StreamOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("parts", c.POINTER(Part)), ("part_count", c.c_uint32),
                ("tile_count", c.c_uint32), ("tiles", c.POINTER(c.c_uint32))]


class PartView(c.Structure):
    _fields_ = [("elements", c.c_uint64), ("plane_count", c.c_uint32), ("planes", c.POINTER(c.c_void_p))]


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("errno_value", c.c_int), ("offset", c.c_uint64), ("wanted", c.c_uint64),
                ("got", c.c_uint64), ("operation", c.c_char_p), ("path", c.c_char_p), ("detail", c.c_char_p),
                ("message", c.c_char_p)]


Compute = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_uint32, c.POINTER(PartView))
library = c.CDLL(sys.argv[1])
library.spillway_last_error.restype = c.POINTER(Error)


def options(kind, **fields):
    return kind(size=c.sizeof(kind), **fields)


def call(name, *arguments):
    """Calls spillway_<name>; a status other than SPILLWAY_OK is an exception with the library's words."""
    if getattr(library, "spillway_" + name)(*arguments) != 0:
        raise RuntimeError(library.spillway_last_error().contents.message.decode())


def made(name, *arguments):
    handle = c.c_void_p()
    call(name, *arguments, c.byref(handle))
    return handle


def file_round_trip(engine, directory):
    data = bytes(range(256)) * 4096
    path = os.path.join(directory, "file").encode()
    file = made("file_create", path, c.byref(options(CreateOptions, size_bytes=len(data))))
    back = c.create_string_buffer(len(data))
    for operation, memory in (("write", c.create_string_buffer(data, len(data))), ("read", back)):
        io = options(Io, file=file, size_bytes=len(data), memory=c.addressof(memory))
        request = made(operation, engine, c.byref(io))
        call("wait", request, c.c_int64(-1), None)
    call("file_remove", file)
    call("file_close", file)
    return back.raw == data


def stream(engine, directory):
    """Writes 16 tiles of 64-bit numbers, doubles them, and returns their sum: through two buffers."""
    count, tile = 1_000_000, 65_536
    plane = Plane(b"number", 8, 1)
    store = made("store_create", engine, c.byref(options(
        StoreOptions, planes=c.pointer(plane), plane_count=1, directory_count=1,
        directories=(c.c_char_p * 1)(directory.encode()), element_count=count, tile_elements=tile)))
    pool = made("pool_create", engine, c.byref(options(PoolOptions, buffer_bytes=8 * tile, buffer_count=2)))
    total = 0

    def run(access, change):
        def compute(_, number, view):
            numbers = (c.c_uint64 * view[0].elements).from_address(view[0].planes[0])
            change(number, numbers)
            return 0

        part = Part(store=store, pool=pool, access=access)
        call("stream_run", c.byref(options(StreamOptions, parts=c.pointer(part), part_count=1)), Compute(compute),
             None, None)

    def fill(number, numbers):
        numbers[:] = range(number * tile, number * tile + len(numbers))

    def double(_, numbers):
        numbers[:] = [2 * n for n in numbers]

    def add(_, numbers):
        nonlocal total
        total += sum(numbers)

    for access, change in ((2, fill), (3, double), (1, add)):  # SPILLWAY_ACCESS_WRITE, _READ_WRITE, _READ
        run(access, change)
    call("pool_destroy", pool)
    call("store_destroy", store)
    return total == count * (count - 1)


def main():
    engine = made("engine_create", None)
    good = file_round_trip(engine, sys.argv[2]) and stream(engine, sys.argv[2])
    call("engine_destroy", engine)
    try:
        call("engine_destroy", engine)
    except RuntimeError as error:
        print(f"a second time: {error}")
    print("all bytes came back" if good else "bytes differ")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
