// A stand-in for CUDA, for machines without a card.
//
// Tensors are on "cuda:0" and lie in host memory. Kernels are registered on torch's own CUDA dispatch key, in a torch
// that was built without CUDA: each checks devices as a build with CUDA does, runs the CPU's kernel on aliases of its
// arguments, and brings the results back to the card. So the numbers are real, and an operator that mixes CPU and GPU
// tensors fails as it does on a card. Counted are kernel launches, copies between host and card, synchronizations,
// float64 tensors on the card, memory, and allocations that were refused for want of it.
//
// It cannot show operators and dtypes that CUDA lacks, the numerics of cuBLAS and cuDNN, asynchronous errors, or time.

#include <ATen/core/TensorBody.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <atomic>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

using at::Tensor;
using c10::Device;
using c10::DeviceType;
using c10::DispatchKey;
using c10::DispatchKeySet;
using c10::Storage;
using torch::jit::Stack;
using OptionalTensors = c10::List<std::optional<Tensor>>;

const Device kCard(DeviceType::CUDA, 0), kHost(DeviceType::CPU);

bool on_card(const Tensor& tensor) { return tensor.defined() && tensor.device().type() == DeviceType::CUDA; }

// ---------------------------------------------------------------------------------------------- counters and memory

struct Counters {
  std::atomic<int64_t> launches{0}, to_card{0}, to_host{0}, synchronizations{0}, float64{0}, refused{0};
} counters;

std::atomic<int64_t> memory_used{0}, memory_peak{0}, memory_limit{int64_t(80) << 30};

void take_memory(int64_t size) {
  if (memory_used + size > memory_limit) {
    ++counters.refused;
    TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory. Tried to allocate ", size, " bytes.");
  }
  memory_used += size;
  memory_peak = std::max(memory_peak.load(), memory_used.load());
}

// A storage of the card over that of a CPU tensor, which it keeps alive; nothing is copied.
Storage brought_to_card(const Storage& storage) {
  struct Owner {
    Storage storage;
    int64_t size;
    ~Owner() { memory_used -= size; }
  };
  const int64_t size = storage.nbytes();
  take_memory(size);
  auto drop = [](void* owner) { delete static_cast<Owner*>(owner); };
  at::DataPtr data(storage.mutable_data(), new Owner{storage, size}, drop, kCard);
  return Storage(Storage::use_byte_size_t(), size, std::move(data), nullptr, false);
}

// A storage of the host over that of a tensor on the card, which it keeps alive.
Storage lent_to_host(const Storage& storage) {
  auto drop = [](void* owner) { delete static_cast<Storage*>(owner); };
  at::DataPtr data(storage.mutable_data(), new Storage(storage), drop, kHost);
  return Storage(Storage::use_byte_size_t(), storage.nbytes(), std::move(data), nullptr, false);
}

void shape_like(const Tensor& tensor, const Tensor& like) {
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
}

Tensor with_storage(Storage storage, DispatchKey key, const Tensor& like) {
  auto tensor = at::detail::make_tensor<at::TensorImpl>(std::move(storage), DispatchKeySet(key), like.dtype());
  shape_like(tensor, like);
  if (key == DispatchKey::CUDA && like.scalar_type() == at::kDouble) ++counters.float64;
  return tensor;
}

// A view, which is what inference mode makes of a normal tensor: not a tensor of inference mode.
Tensor view_of(const Tensor& base, const Tensor& like) {
  auto tensor = at::detail::make_tensor<at::TensorImpl>(
      at::TensorImpl::VIEW, Storage(base.storage()), base.key_set(), like.dtype());
  shape_like(tensor, like);
  return tensor;
}

// ---------------------------------------------------------------------------------------------- what torch asks for

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return kCard; }
  Device getDevice() const override { return kCard; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isPinnedPtr(const void*) const override { return false; }
  at::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(DeviceType::CPU); }
};

// ---------------------------------------------------------------------------------------------- operators

// Operators for which torch's code generator leaves the check of devices to the kernel: those take scalars of the CPU.
std::unordered_set<std::string> takes_scalars;

const std::unordered_set<std::string> kSynchronizing = {
    "aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::_unique2",
    "aten::repeat_interleave.Tensor", "aten::bincount"};

std::string name_of(const c10::OperatorHandle& op) {
  const auto& name = op.operator_name();
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

// One call of an operator: its tensors are replaced by aliases on the host, and its results brought to the card.
class Call {
 public:
  Call(const c10::OperatorHandle& op, Stack* stack)
      : op_(op), schema_(op.schema()), name_(name_of(op)), stack_(stack), takes_scalars_(takes_scalars.count(name_)),
        waits_(kSynchronizing.count(name_)) {}

  void run() {
    const size_t count = schema_.arguments().size(), first = stack_->size() - count;
    for (size_t i = 0; i < count; ++i) lend((*stack_)[first + i], i);
    op_.redispatchBoxed(DispatchKeySet(DispatchKey::CPU), stack_);
    bool launched = false;
    for (const auto& lent : lent_) launched |= lent.written;
    for (const auto& lent : lent_)
      if (lent.written) write_back(lent);
    const size_t results = schema_.returns().size();
    for (size_t i = stack_->size() - results; i < stack_->size(); ++i) bring_back((*stack_)[i]);
    if (launched || !made_.empty()) ++counters.launches;  // views and scalars run no kernel
    if (waits_) ++counters.synchronizations;
  }

 private:
  struct Lent {
    Tensor card, host;
    bool written;
  };

  bool indices_may_be_on_host(size_t argument) const {
    return argument == 1 && (name_.rfind("aten::index", 0) == 0 || name_.rfind("aten::_index_put", 0) == 0);
  }

  void check_device(const Tensor& tensor, size_t argument) const {
    if (!tensor.defined() || on_card(tensor) || indices_may_be_on_host(argument)) return;
    if (takes_scalars_ && tensor.dim() == 0) return;
    TORCH_CHECK(
        false, "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (when ",
        "checking argument ", schema_.arguments()[argument].name(), " in method ", name_, ")");
  }

  Tensor lend(const Tensor& tensor, size_t argument, bool written) {
    check_device(tensor, argument);
    if (!on_card(tensor)) return tensor;
    for (auto& lent : lent_) {
      if (!lent.card.is_same(tensor)) continue;
      lent.written |= written;
      return lent.host;
    }
    // an empty `out` is one that the kernel is to resize, which only a storage of the CPU's own can be
    auto host = written && tensor.numel() == 0 ? at::empty(tensor.sizes(), tensor.options().device(kHost))
                                               : with_storage(lent_to_host(tensor.storage()), DispatchKey::CPU, tensor);
    lent_.push_back({tensor, host, written});
    return host;
  }

  void lend(c10::IValue& value, size_t argument) {
    const auto* alias = schema_.arguments()[argument].alias_info();
    const bool written = alias && alias->isWrite();
    if (value.isTensor()) {
      value = lend(value.toTensor(), argument, written);
    } else if (value.isTensorList()) {
      c10::List<Tensor> tensors;
      for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(lend(tensor, argument, written));
      value = tensors;
    } else if (value.isOptionalTensorList()) {
      OptionalTensors tensors;
      for (const std::optional<Tensor>& tensor : value.toOptionalTensorVector()) {
        tensors.push_back(tensor ? std::optional<Tensor>(lend(*tensor, argument, written)) : std::nullopt);
        waits_ |= tensor && tensor->defined() && tensor->scalar_type() == at::kBool;  // a mask, whose size is asked for
      }
      value = tensors;
    } else if (value.isGenerator()) {
      TORCH_CHECK(!value.toGenerator().defined(), "the stand-in has no generator of random numbers on the card");
    } else if (value.isDevice()) {
      value = kHost;
    }
  }

  // The kernel may have given a tensor that it wrote to another storage and shape.
  static void write_back(const Lent& lent) {
    if (lent.host.storage().data() != lent.card.storage().data())
      lent.card.unsafeGetTensorImpl()->set_storage_keep_dtype(brought_to_card(lent.host.storage()));
    if (lent.host.sizes() != lent.card.sizes() || lent.host.strides() != lent.card.strides())
      shape_like(lent.card, lent.host);
  }

  Tensor bring_back(const Tensor& result) {
    if (!result.defined() || on_card(result)) return result;
    for (const auto& lent : lent_)
      if (lent.host.is_same(result)) return lent.card;
    for (const auto& lent : lent_)
      if (lent.host.storage().is_alias_of(result.storage())) return view_of(lent.card, result);
    for (const auto& made : made_)
      if (made.host.storage().is_alias_of(result.storage())) return view_of(made.card, result);
    auto card = with_storage(brought_to_card(result.storage()), DispatchKey::CUDA, result);
    made_.push_back({card, result, true});
    return card;
  }

  void bring_back(c10::IValue& value) {
    if (value.isTensor()) {
      value = bring_back(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<Tensor> tensors;
      for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(bring_back(tensor));
      value = tensors;
    }
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  const std::string name_;
  Stack* stack_;
  const bool takes_scalars_;
  bool waits_;
  std::vector<Lent> lent_, made_;
};

void run_on_host(const c10::OperatorHandle& op, Stack* stack) { Call(op, stack).run(); }

Tensor to_card(const Tensor& host) {
  return with_storage(brought_to_card(host.storage()), DispatchKey::CUDA, host);
}

Tensor empty(
    c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return to_card(at::empty(C10_AS_INTARRAYREF_SLOW(size), dtype, at::kStrided, kHost, false, format));
}

Tensor empty_strided(
    c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<Device>, std::optional<bool>) {
  auto sizes = C10_AS_INTARRAYREF_SLOW(size), strides = C10_AS_INTARRAYREF_SLOW(stride);
  return to_card(at::empty_strided(sizes, strides, dtype, at::kStrided, kHost, false));
}

Tensor& copy(Tensor& self, const Tensor& source, bool) {
  if (self.is_same(source)) return self;
  if (on_card(self) && on_card(source)) ++counters.launches;
  if (on_card(self) && !on_card(source)) ++counters.to_card;
  if (!on_card(self)) ++counters.to_host, ++counters.synchronizations;
  auto host = [](const Tensor& tensor) {
    return on_card(tensor) ? with_storage(lent_to_host(tensor.storage()), DispatchKey::CPU, tensor) : tensor;
  };
  host(self).copy_(host(source));
  return self;
}

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("copy_", TORCH_FN(copy));
  // Composites that would choose kernels of cuDNN, or others than the CPU's: as a whole they are the CPU's own.
  for (const char* name : {"convolution", "native_group_norm", "native_layer_norm", "native_batch_norm",
                           "scaled_dot_product_attention"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

// ---------------------------------------------------------------------------------------------- for standin.py

c10::Dict<std::string, int64_t> counts() {
  c10::Dict<std::string, int64_t> counts;
  counts.insert("launches", counters.launches);
  counts.insert("to_card", counters.to_card);
  counts.insert("to_host", counters.to_host);
  counts.insert("synchronizations", counters.synchronizations);
  counts.insert("float64", counters.float64);
  counts.insert("refused", counters.refused);
  return counts;
}

std::vector<int64_t> memory() { return {memory_used, memory_peak, memory_limit}; }
void limit_memory(int64_t size) { memory_limit = size; }
void reset_peak() { memory_peak = memory_used.load(); }
void synchronize() { ++counters.synchronizations; }
void take_scalars(std::string name) { takes_scalars.insert(std::move(name)); }

TORCH_LIBRARY(standin, library) {
  library.def("counts", counts);
  library.def("memory", memory);
  library.def("limit_memory", limit_memory);
  library.def("reset_peak", reset_peak);
  library.def("synchronize", synchronize);
  library.def("take_scalars", take_scalars);
}

}  // namespace

namespace at {
using StandInHooks = ::Hooks;
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, StandInHooks)
}  // namespace at
