#include "trainer/models/registry.h"
#include <spillway/aio/check.h>
#include <spillway/aio/mutex.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "trainer/base/nearest_name.h"
#include "trainer/config/json_document.h"

namespace spillway::trainer {
namespace {

constexpr const char* kLoad = "load model";
constexpr const char* kFamily = "family";  // the member of a saved model that names it
constexpr std::uintmax_t kMostTextBytes = std::uintmax_t{16} << 20;

struct Registry {
  Mutex mutex;
  std::vector<const ModelFamily*> families SPILLWAY_GUARDED_BY(mutex){&gpt2_family()};
};

Registry& registry() {
  static Registry all;
  return all;
}

std::vector<std::string> all_model_names() {
  std::vector<std::string> names;
  for (const ModelFamily* family : model_families()) {
    for (std::string& name : family->model_names()) names.push_back(std::move(name));
  }
  return names;
}

// The family that a member of the object names; the default one where none is named or known, which
// then says what it wants.
const ModelFamily& family_of(const JsonValue& object, const char* member) {
  const JsonValue* const name = object.find(member);
  if (name == nullptr || !name->is_string()) return default_family();
  const ModelFamily* const family = find_family(name->string());
  return family == nullptr ? default_family() : *family;
}

Result<ModelConfigPtr> read_text(std::string_view text, const std::string& path) {
  const auto document = JsonDocument::parse(text, path);
  if (!document) return tl::unexpected(document.error());
  return family_of(document->root(), "model_type").read(text, path);
}

tl::unexpected<Error> unknown_name(const std::string& name) {
  const std::vector<std::string> names = all_model_names();
  const std::string nearest = nearest_name(name, names);
  std::string detail = "neither a file nor a model's name";
  if (!nearest.empty()) detail += ", did you mean '" + nearest + "'?";
  detail += " (names:";
  for (const std::string& known : names) detail += " " + known;
  return make_error(ErrorKind::kNotFound, kLoad, name, detail + ")");
}

}  // namespace

void register_family(const ModelFamily& family) {
  SPILLWAY_CHECK(find_family(family.name()) == nullptr, "one family has this name");
  Registry& all = registry();
  const MutexLock guard(all.mutex);
  all.families.push_back(&family);
}

std::vector<const ModelFamily*> model_families() {
  Registry& all = registry();
  const MutexLock guard(all.mutex);
  return all.families;
}

const ModelFamily* find_family(const std::string& name) {
  const auto families = model_families();
  const auto found = std::ranges::find(families, name, &ModelFamily::name);
  return found == families.end() ? nullptr : *found;
}

const ModelFamily& default_family() { return gpt2_family(); }

Result<ModelConfigPtr> load_model_config(const std::string& name_or_json_path) {
  for (const ModelFamily* family : model_families()) {
    if (ModelConfigPtr model = family->named(name_or_json_path)) return model;
  }
  const auto text = read_json_text(name_or_json_path);
  if (text) return read_text(*text, name_or_json_path);
  if (text.error().kind != ErrorKind::kNotFound) return tl::unexpected(text.error());
  return unknown_name(name_or_json_path);
}

Result<ModelConfigPtr> load_hugging_face_config(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "config.json";
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) {
    std::error_code unknown;
    const bool missing = !std::filesystem::exists(directory, unknown);
    return errno_error("open", path.string(), error.value(),
                       missing ? "it must be a directory: nothing is fetched from the Hugging Face "
                                 "hub, so download the model first"
                               : "");
  }
  if (bytes > kMostTextBytes) {
    return make_error(ErrorKind::kInvalid, "read " + default_family().title() + " weights",
                      path.string(), "it is far too large");
  }
  return load_model_config(path.string());
}

std::string saved_model(const ModelConfig& model) {
  const std::string json = model.json();
  if (&model.family() == &default_family()) return json;
  auto object = parse_json(json);
  SPILLWAY_CHECK(object && object->is_object(), "a configuration is a JSON object");
  JsonValue saved = JsonValue::object({{kFamily, model.family().name()}});
  for (const JsonMember& member : object->members()) saved.set(member.name, member.value);
  return text_of(saved);
}

Result<ModelConfigPtr> read_saved_model(const std::string& json, const std::string& name) {
  const auto document = JsonDocument::parse(json, name);
  if (!document) return tl::unexpected(document.error());
  const JsonValue* const wanted = document->root().find(kFamily);
  if (wanted == nullptr) return default_family().read(json, name);
  const std::string family_name = wanted->is_string() ? wanted->string() : text_of(*wanted);
  const ModelFamily* const family = find_family(family_name);
  if (family == nullptr) {
    return make_error(ErrorKind::kUnsupported, kLoad, name,
                      "it is of the model family '" + family_name + "', which is not known here");
  }
  JsonValue rest = JsonValue::object();
  for (const JsonMember& member : document->root().members()) {
    if (member.name != kFamily) rest.set(member.name, member.value);
  }
  return family->read(text_of(rest), name);
}

}  // namespace spillway::trainer
