#include <spillway/aio/error.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace spillway {
namespace {

const char* words(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kIo:
      return "the device failed";
    case ErrorKind::kNoSpace:
      return "no space";
    case ErrorKind::kNotFound:
      return "not found";
    case ErrorKind::kPermission:
      return "not permitted";
    case ErrorKind::kShortTransfer:
      return "the file ended early";
    case ErrorKind::kDeadline:
      return "the deadline passed";
    case ErrorKind::kCancelled:
      return "cancelled";
    case ErrorKind::kCorrupt:
      return "the data is corrupt";
    case ErrorKind::kBusy:
      return "in use";
    case ErrorKind::kNoMemory:
      return "not enough memory";
    case ErrorKind::kUnsupported:
      return "not supported here";
    case ErrorKind::kInvalid:
      return "not valid";
  }
  return "unknown error";
}

// A path or a detail may hold anything; the message stays one line.
void append_printable(std::string& line, std::string_view text) {
  for (char c : text) line += static_cast<unsigned char>(c) < ' ' ? '?' : c;
}

}  // namespace

std::string Error::message() const {
  std::string line;
  append_printable(line, operation);
  if (!path.empty()) {
    line += ' ';
    append_printable(line, path);
  }
  if (wanted != 0) {
    line += " at " + std::to_string(offset) + ": wanted " + std::to_string(wanted) +
            " bytes, got " + std::to_string(got);
  }
  std::string cause = words(kind);
  if (errno_value != 0) {
    const char* text = ::strerrordesc_np(errno_value);  // strerror() is not safe in threads
    cause = text != nullptr ? text : "errno " + std::to_string(errno_value);
  }
  line += ": " + cause;
  if (!detail.empty() && detail != cause) {
    line += " (";
    append_printable(line, detail);
    line += ')';
  }
  return line;
}

ErrorKind kind_of_errno(int errno_value) {
  switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ErrorKind::kNoSpace;
    case ENOENT:
    case ENOTDIR:
    case ENXIO:
    case ENODEV:
      return ErrorKind::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorKind::kPermission;
    case ETIME:
    case ETIMEDOUT:
      return ErrorKind::kDeadline;
    case ECANCELED:
      return ErrorKind::kCancelled;
    case EEXIST:
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
      return ErrorKind::kBusy;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return ErrorKind::kNoMemory;
    case ENOSYS:
    case EOPNOTSUPP:
      return ErrorKind::kUnsupported;
    case EINVAL:
    case EISDIR:
    case EBADF:
    case EFAULT:
    case ENAMETOOLONG:
    case ELOOP:
    case EOVERFLOW:
      return ErrorKind::kInvalid;
    default:
      return ErrorKind::kIo;
  }
}

tl::unexpected<Error> errno_error(std::string operation, std::string path, int errno_value,
                                  std::string detail) {
  Error error;
  error.kind = kind_of_errno(errno_value);
  error.operation = std::move(operation);
  error.path = std::move(path);
  error.errno_value = errno_value;
  error.detail = std::move(detail);
  if (errno_value == EDQUOT) {
    // Only a project's limit is in what statvfs tells beforehand.
    error.detail += error.detail.empty() ? "" : "; ";
    error.detail += "the quota of the user, the group or the directory's project is used up";
  }
  return tl::unexpected<Error>(std::move(error));
}

tl::unexpected<Error> make_error(ErrorKind kind, std::string operation, std::string path,
                                 std::string detail) {
  Error error;
  error.kind = kind;
  error.operation = std::move(operation);
  error.path = std::move(path);
  error.detail = std::move(detail);
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace spillway
