#include "objects.h"
#include "options.h"

using namespace spillway;
using namespace spillway::c;

spillway_status spillway_file_create(const char* path, const spillway_create_options* options,
                                     spillway_file** file) {
  return guarded("create file", [&] {
    const char* const what = "create file";
    if (auto status = want(file, what)) return status;
    *file = nullptr;
    if (path == nullptr) return failed(SPILLWAY_MISUSE, what, "the path is NULL");
    spillway_create_options given;
    if (auto status = read_options(options, &given, what)) return status;
    if (auto status = want_choice(given.direct, 2, "direct", what)) return status;
    if (given.size_bytes > INT64_MAX) {
      return failed(SPILLWAY_MISUSE, what, "no file can be of that many bytes");
    }
    auto made = aio::File::create(path, {.size_bytes = given.size_bytes,
                                         .overwrite = given.overwrite != 0,
                                         .direct = direct_of(given.direct)});
    if (!made) return failed(made.error());
    return give(std::make_shared<FileObject>(std::move(*made)), file, what);
  });
}

spillway_status spillway_file_open(const char* path, const spillway_open_options* options,
                                   spillway_file** file) {
  return guarded("open file", [&] {
    const char* const what = "open file";
    if (auto status = want(file, what)) return status;
    *file = nullptr;
    if (path == nullptr) return failed(SPILLWAY_MISUSE, what, "the path is NULL");
    spillway_open_options given;
    if (auto status = read_options(options, &given, what)) return status;
    if (auto status = want_choice(given.direct, 2, "direct", what)) return status;
    auto opened =
        aio::File::open(path, {.writable = given.writable != 0, .direct = direct_of(given.direct)});
    if (!opened) return failed(opened.error());
    return give(std::make_shared<FileObject>(std::move(*opened)), file, what);
  });
}

spillway_status spillway_file_close(spillway_file* file) {
  return guarded("close file", [&] { return remove_object(file, Kind::kFile, "close file"); });
}

spillway_status spillway_file_get_info(spillway_file* file, spillway_file_info* info) {
  return guarded("file info", [&] {
    auto object = find<FileObject>(file, "file info");
    if (!object) return object.error();
    const aio::File& opened = (*object)->file;
    const auto size_bytes = opened.size_bytes();
    if (!size_bytes) return failed(size_bytes.error());
    return write_result({.size = 0,
                         .size_bytes = *size_bytes,
                         .memory_alignment = opened.memory_alignment(),
                         .offset_alignment = opened.offset_alignment(),
                         .direct = opened.direct()},
                        info, "file info");
  });
}

spillway_status spillway_file_sync(spillway_file* file) {
  return guarded("sync file", [&] {
    auto object = find<FileObject>(file, "sync file");
    if (!object) return object.error();
    const MutexLock lock((*object)->mutex);
    auto synced = (*object)->file.sync();
    return synced ? SPILLWAY_OK : failed(synced.error());
  });
}

spillway_status spillway_file_remove(spillway_file* file) {
  return guarded("remove file", [&] {
    auto object = find<FileObject>(file, "remove file");
    if (!object) return object.error();
    const MutexLock lock((*object)->mutex);
    auto removed = (*object)->file.remove();
    return removed ? SPILLWAY_OK : failed(removed.error());
  });
}
