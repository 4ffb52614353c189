#include <spillway/aio/check.h>
#include <spillway/aio/mutex.h>
#include <spillway/trainer/failure.h>
#include <spillway/trainer/model_units.h>

#include <map>

#include "trainer/models/registry.h"

namespace spillway::trainer {
namespace {

struct Makers {
  Mutex mutex;
  std::map<std::string, UnitMaker> of_family SPILLWAY_GUARDED_BY(mutex){
      {gpt2_family().name(), add_gpt2_units}};
};

Makers& makers() {
  static Makers all;
  return all;
}

}  // namespace

void register_units(const std::string& family, UnitMaker maker) {
  Makers& all = makers();
  const MutexLock guard(all.mutex);
  const bool is_new = all.of_family.emplace(family, maker).second;
  SPILLWAY_CHECK(is_new, "one maker of units has this name");
}

std::unique_ptr<ModelUnits> add_units(ModelSpec& spec, const ModelConfig& model) {
  SPILLWAY_CHECK(spec.units().empty(), "a model's units come first");
  UnitMaker maker = nullptr;
  {
    Makers& all = makers();
    const MutexLock guard(all.mutex);
    const auto found = all.of_family.find(model.family().name());
    SPILLWAY_CHECK(found != all.of_family.end(), "a family registers its units too");
    maker = found->second;
  }
  auto units = maker(spec, model);
  SPILLWAY_CHECK(spec.units().size() == model.shape().units.size(),
                 "a model's shape lists the units that it adds");
  return units;
}

void require_plain_batch(const Batch& batch, const std::string& family) {
  const auto refuse = [&](const at::Tensor& given, const char* what) {
    if (!given.defined()) return;
    throw Failure(make_error(ErrorKind::kUnsupported, "run a model", "",
                             family + " does not take " + what + " of a batch")
                      .value());
  };
  refuse(batch.positions, "positions");
  refuse(batch.documents, "documents");
  refuse(batch.source, "a source");
}

}  // namespace spillway::trainer
