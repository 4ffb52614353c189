#include "trainer/stream/activation_store.h"
#include <ATen/Functions.h>
#include <spillway/aio/check.h>
#include <spillway/aio/mutex.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/device/device.h"
#include "trainer/stream/activation_places.h"

namespace spillway::trainer {
namespace {

// What is smaller is not worth a page of its own.
constexpr std::size_t kMinBytes = 4096;

}  // namespace

class ActivationStore::Waiting : public std::enable_shared_from_this<Waiting> {
 public:
  explicit Waiting(std::weak_ptr<State> state) : state_(std::move(state)) {}
  ~Waiting();

 private:
  friend struct ActivationStore::State;
  using Identity = c10::weak_intrusive_ptr<c10::TensorImpl>;

  std::weak_ptr<State> state_;
  Identity tensor_{c10::intrusive_ptr<c10::TensorImpl>()};  // as it was put
  std::vector<std::int64_t> shape_;
  at::ScalarType type_ = at::kFloat;
  at::Tensor here_;                                 // until it leaves
  std::optional<ActivationPlaces::PlaceId> place_;  // once it has left
};

struct ActivationStore::State : std::enable_shared_from_this<ActivationStore::State> {
  explicit State(ModelStates& model_states)
      : device(model_states.config().activations.device),
        kind(model_states.device_kind()),
        where(model_states.device()),
        places(model_states) {}

  std::shared_ptr<Waiting> put(const at::Tensor& activation);
  void leave(Waiting& waiting) SPILLWAY_REQUIRES(mutex);
  at::Tensor take(Waiting& waiting);
  void read_ahead_of(const Waiting& waiting) SPILLWAY_REQUIRES(mutex);
  void forget(Waiting& waiting) noexcept;

  const OffloadDevice device;
  const DeviceKind& kind;
  const at::Device where;  // the units compute
  mutable Mutex mutex;
  ActivationPlaces places SPILLWAY_GUARDED_BY(mutex);
  // Of `put`; each leaves the list when it is dropped.
  std::vector<Waiting*> order SPILLWAY_GUARDED_BY(mutex);
  std::uint64_t computing_bytes SPILLWAY_GUARDED_BY(mutex) = 0;
  std::uint64_t peak_computing_bytes SPILLWAY_GUARDED_BY(mutex) = 0;
};

ActivationStore::Waiting::~Waiting() {
  if (const auto state = state_.lock()) state->forget(*this);
}

std::shared_ptr<ActivationStore::Waiting> ActivationStore::State::put(
    const at::Tensor& activation) {
  const MutexLock guard(mutex);
  for (Waiting* other : order) {
    if (other->tensor_._unsafe_get_target() != activation.unsafeGetTensorImpl()) continue;
    // Another thread may be dropping it: then it cannot be shared any more.
    if (auto same = other->weak_from_this().lock()) return same;
  }
  if (!order.empty()) leave(*order.back());
  auto waiting = std::make_shared<Waiting>(weak_from_this());
  waiting->tensor_ = Waiting::Identity(activation.getIntrusivePtr());
  waiting->shape_ = activation.sizes().vec();
  waiting->type_ = activation.scalar_type();
  waiting->here_ = activation.detach();
  computing_bytes += activation.nbytes();
  peak_computing_bytes = std::max(peak_computing_bytes, computing_bytes);
  order.push_back(waiting.get());
  return waiting;
}

void ActivationStore::State::leave(Waiting& waiting) {
  if (!waiting.here_.defined() || waiting.place_) return;
  const auto place = places.take_place(waiting.here_.nbytes());
  waiting.place_ = place;
  places.store(place, waiting.here_);
  computing_bytes -= waiting.here_.nbytes();
  waiting.here_.reset();
}

at::Tensor ActivationStore::State::take(Waiting& waiting) {
  const MutexLock guard(mutex);
  const auto options = at::TensorOptions().dtype(waiting.type_);
  at::Tensor taken = waiting.here_;
  if (!taken.defined()) {
    if (device == OffloadDevice::kCpu && !kind.has_memory_of_its_own()) {
      return at::from_blob(places.memory(*waiting.place_), waiting.shape_, options);
    }
    taken = kind.empty(waiting.shape_, options.device(where));
    places.load(*waiting.place_, taken);
  }
  if (device == OffloadDevice::kNvme) read_ahead_of(waiting);
  return taken;
}

// What was put before is needed next.
void ActivationStore::State::read_ahead_of(const Waiting& waiting) {
  auto next = std::find(order.rbegin(), order.rend(), &waiting);
  while (next != order.rend() && ++next != order.rend()) {
    if ((*next)->place_ && !places.read_ahead(*(*next)->place_)) return;
  }
}

void ActivationStore::State::forget(Waiting& waiting) noexcept {
  const MutexLock guard(mutex);
  std::erase(order, &waiting);
  if (waiting.here_.defined()) computing_bytes -= waiting.here_.nbytes();
  if (waiting.place_) places.give_back(*waiting.place_);
}

ActivationStore::ActivationStore(ModelStates& states) : state_(std::make_shared<State>(states)) {}

ActivationStore::~ActivationStore() = default;

bool ActivationStore::moves(const at::Tensor& activation) const {
  return state_->device != OffloadDevice::kNone && activation.grad_fn() != nullptr &&
         activation.is_contiguous() && activation.nbytes() >= kMinBytes;
}

std::shared_ptr<ActivationStore::Waiting> ActivationStore::put(const at::Tensor& activation) {
  SPILLWAY_CHECK(moves(activation), "an activation that is not moved stays with its graph");
  return state_->put(activation);
}

at::Tensor ActivationStore::take(const std::shared_ptr<Waiting>& waiting) {
  return state_->take(*waiting);
}

std::uint64_t ActivationStore::memory_bytes() const {
  const MutexLock guard(state_->mutex);
  return state_->places.memory_bytes();
}

std::uint64_t ActivationStore::storage_bytes() const {
  const MutexLock guard(state_->mutex);
  return state_->places.storage_bytes();
}

std::uint64_t ActivationStore::peak_computing_bytes() const {
  const MutexLock guard(state_->mutex);
  return state_->peak_computing_bytes;
}

double ActivationStore::wait_seconds() const {
  const MutexLock guard(state_->mutex);
  return state_->places.wait_seconds();
}

}  // namespace spillway::trainer
