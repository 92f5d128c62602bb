#include "cpm_bee/weights.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace palo {
namespace {

// Types of weights that the converter writes and ggml multiplies with.
constexpr ggml_type MATRIX_TYPES[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q4_0,
                                      GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

std::string describe(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

ggml_type matrix_type(const RawTensor& tensor, const std::string& name) {
  const auto* type = std::find(std::begin(MATRIX_TYPES), std::end(MATRIX_TYPES), tensor.type);
  if (type != std::end(MATRIX_TYPES)) return *type;
  throw FormatError(name + ": expected type f32, f16, bf16, q4_0, q8_0, q4_K, q5_K or q6_K, got ggml type " +
                    std::to_string(tensor.type) + "; quantize the model to one of them");
}

void check_type(const RawTensor& tensor, const std::string& name, ggml_type type, const char* type_name) {
  if (tensor.type == type) return;
  throw FormatError(name + ": expected type " + type_name + ", got ggml type " + std::to_string(tensor.type) +
                    "; convert the checkpoint again");
}

void check_bytes(const RawTensor& tensor, const std::string& name, ggml_type type, int64_t n_rows, int64_t n_cols) {
  if (n_cols % ggml_blck_size(type) != 0) {
    throw FormatError(name + ": expected rows of whole blocks of " + std::to_string(ggml_blck_size(type)) +
                      " values, got rows of " + std::to_string(n_cols) + "; quantize the model to another type");
  }
  const int64_t n_bytes = checked_product(n_rows, static_cast<int64_t>(ggml_row_size(type, n_cols)), name);
  if (static_cast<size_t>(n_bytes) == tensor.n_bytes) return;
  throw FormatError(name + ": expected " + std::to_string(n_bytes) + " bytes, got " + std::to_string(tensor.n_bytes) +
                    "; the file is damaged, copy or convert it again");
}

// One that holds n_tensors without their bytes.
ggml_context_ptr new_context(size_t n_tensors) {
  ggml_context_ptr context(ggml_init({n_tensors * ggml_tensor_overhead(), nullptr, true}));
  if (context == nullptr) throw std::bad_alloc();
  return context;
}

ggml_backend_buffer_ptr allocate(ggml_context* context, ggml_backend_buffer_type_t type) {
  if (ggml_get_first_tensor(context) == nullptr) return nullptr;
  ggml_backend_buffer_ptr memory(ggml_backend_alloc_ctx_tensors_from_buft(context, type));
  if (memory == nullptr) throw std::bad_alloc();
  ggml_backend_buffer_set_usage(memory.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  return memory;
}

}  // namespace

// Makes a tensor for each weight, then gives them memory and copies the bytes.
class WeightLoader {
 public:
  WeightLoader(CpmBeeWeights& weights, const CpmBeeConfig& config, const TensorMap& tensors, ggml_backend_dev_t device)
      : weights_(weights), config_(config), tensors_(tensors), device_(device) {
    const auto n_tensors = static_cast<size_t>(9 * config.n_layer + 2);
    weights_.device_context_ = new_context(n_tensors);
    weights_.host_context_ = new_context(n_tensors);
  }

  void load() {
    weights_.token_embd = matrix("token_embd.weight", config_.n_vocab, config_.n_embd);
    weights_.output_norm = vector("output_norm.weight", config_.n_embd);
    for (int64_t i = 0; i < config_.n_layer; ++i) weights_.layers.push_back(layer("blk." + std::to_string(i) + "."));
    read_relation_bias();
    copy_in();
  }

 private:
  CpmBeeLayer layer(const std::string& block) const {
    const int64_t n_embd = config_.n_embd, n_ff = config_.n_ff;
    return {.attn_norm = vector(block + "attn_norm.weight", n_embd),
            .attn_q = matrix(block + "attn_q.weight", n_embd, n_embd),
            .attn_k = matrix(block + "attn_k.weight", n_embd, n_embd),
            .attn_v = matrix(block + "attn_v.weight", n_embd, n_embd),
            .attn_output = matrix(block + "attn_output.weight", n_embd, n_embd),
            .ffn_norm = vector(block + "ffn_norm.weight", n_embd),
            .ffn_gate = matrix(block + "ffn_gate.weight", n_ff, n_embd),
            .ffn_up = matrix(block + "ffn_up.weight", n_ff, n_embd),
            .ffn_down = matrix(block + "ffn_down.weight", n_embd, n_ff)};
  }

  const RawTensor& at(const std::string& name, const std::vector<int64_t>& shape) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      throw FormatError("tensor " + name + ": expected it in the file, got none; convert the checkpoint again");
    }
    if (found->second.shape == shape) return found->second;
    throw FormatError(name + ": expected shape " + describe(shape) + ", got " + describe(found->second.shape) +
                      "; convert the checkpoint again");
  }

  ggml_tensor* matrix(const std::string& name, int64_t n_out, int64_t n_in) const {
    const RawTensor& tensor = at(name, {n_out, n_in});
    const ggml_type type = matrix_type(tensor, name);
    check_bytes(tensor, name, type, n_out, n_in);
    const bool is_taken = is_taken_by_device(type, n_out, n_in);
    return named(is_taken ? weights_.device_context_ : weights_.host_context_, name, type, n_out, n_in);
  }

  ggml_tensor* vector(const std::string& name, int64_t n) const {
    const RawTensor& tensor = at(name, {n});
    check_type(tensor, name, GGML_TYPE_F32, "f32");
    check_bytes(tensor, name, GGML_TYPE_F32, 1, n);
    return named(weights_.host_context_, name, GGML_TYPE_F32, 1, n);
  }

  static ggml_tensor* named(const ggml_context_ptr& context, const std::string& name, ggml_type type, int64_t n_out,
                            int64_t n_in) {
    return ggml_set_name(ggml_new_tensor_2d(context.get(), type, n_in, n_out), name.c_str());
  }

  // Asks as llama.cpp does: about a product with a weight whose buffer, of the device's type, is still empty.
  bool is_taken_by_device(ggml_type type, int64_t n_out, int64_t n_in) const {
    if (device_ == nullptr) return false;
    const ggml_context_ptr context = new_context(3);
    const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(ggml_backend_dev_buffer_type(device_), 0));
    if (empty == nullptr) throw std::bad_alloc();
    ggml_tensor* w = ggml_new_tensor_2d(context.get(), type, n_in, n_out);
    ggml_tensor* x = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, n_in, 1);
    const ggml_tensor* product = ggml_mul_mat(context.get(), w, x);
    w->buffer = empty.get();
    return ggml_backend_dev_supports_op(device_, product);
  }

  void read_relation_bias() const {
    const std::string name = "rel_attn_bias";
    const RawTensor& tensor = at(name, {config_.n_bias_rows(), config_.n_head});
    check_type(tensor, name, GGML_TYPE_F16, "f16");
    check_bytes(tensor, name, GGML_TYPE_F16, config_.n_bias_rows(), config_.n_head);
    weights_.relation_bias.resize(static_cast<size_t>(config_.n_bias_rows() * config_.n_head));
    std::memcpy(weights_.relation_bias.data(), tensor.data, tensor.n_bytes);
  }

  void copy_in() const {
    if (device_ != nullptr) {
      weights_.device_memory_ = allocate(weights_.device_context_.get(), ggml_backend_dev_buffer_type(device_));
    }
    weights_.host_memory_ = allocate(weights_.host_context_.get(), ggml_backend_cpu_buffer_type());
    for (ggml_context* context : {weights_.device_context_.get(), weights_.host_context_.get()}) {
      for (ggml_tensor* w = ggml_get_first_tensor(context); w != nullptr; w = ggml_get_next_tensor(context, w)) {
        const RawTensor& tensor = tensors_.at(ggml_get_name(w));
        ggml_backend_tensor_set(w, tensor.data, 0, tensor.n_bytes);
      }
    }
  }

  CpmBeeWeights& weights_;
  const CpmBeeConfig& config_;
  const TensorMap& tensors_;
  ggml_backend_dev_t device_;
};

CpmBeeWeights::CpmBeeWeights(const CpmBeeConfig& config, const TensorMap& tensors, ggml_backend_dev_t device) {
  WeightLoader(*this, config, tensors, device).load();
}

}  // namespace palo
