// onednn.cpp: oneDNN primitives as jobs.
#include "onednn.h"

#include <omp.h>

#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <unordered_map>

#include "formula/bf16.h"

namespace thalweg::bench {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
constexpr auto kFloat = memory::data_type::f32, kBf16 = memory::data_type::bf16;
using Arguments = std::unordered_map<int, memory>;

struct Stream {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};
Stream& stream() {
  static Stream s;
  return s;
}
Job job(dnnl::primitive primitive, Arguments arguments, int threads) {
  return [primitive = std::move(primitive), arguments = std::move(arguments), threads] {
    omp_set_num_threads(threads);
    primitive.execute(stream().stream, arguments);
    stream().stream.wait();
  };
}
memory random_memory(const memory::desc& desc) {
  memory m(desc, stream().engine);
  std::mt19937 bits(1);
  auto fill = [&](auto* p, auto value) {
    for (size_t i = 0; i < desc.get_size() / sizeof(*p); i++) p[i] = value(float(int32_t(bits())) * 0x1p-31f);
  };
  if (desc.get_data_type() == kBf16) fill(static_cast<Bf16*>(m.get_data_handle()), to_bf16);
  else fill(static_cast<float*>(m.get_data_handle()), [](float x) { return x; });
  return m;
}

}  // namespace

bool have_onednn() { return true; }

Job onednn_matmul(const PeerMatmul& p, int threads, const float* a, const float* b, float* c) {
  omp_set_num_threads(threads);
  const memory::desc x({p.m, p.k}, kFloat, p.transpose_a ? Tag::ba : Tag::ab);
  const memory::desc w({p.k, p.n}, kFloat, p.blocked ? Tag::any : p.transpose_b ? Tag::ba : Tag::ab);
  const memory::desc y({p.m, p.n}, kFloat, Tag::ab);
  const dnnl::matmul::primitive_desc desc(stream().engine, x, w, y);
  memory weights = p.blocked ? random_memory(desc.weights_desc()) : memory(w, stream().engine, const_cast<float*>(b));
  return job(dnnl::matmul(desc),
             {{DNNL_ARG_SRC, memory(x, stream().engine, const_cast<float*>(a))},
              {DNNL_ARG_WEIGHTS, weights},
              {DNNL_ARG_DST, memory(y, stream().engine, c)}},
             threads);
}

Job onednn_matmul_bf16(const PeerMatmul& p, int threads) {
  omp_set_num_threads(threads);
  const memory::desc x({p.m, p.k}, kBf16, p.transpose_a ? Tag::ba : Tag::ab);
  const memory::desc w({p.k, p.n}, kBf16, p.blocked ? Tag::any : p.transpose_b ? Tag::ba : Tag::ab);
  const dnnl::matmul::primitive_desc desc(stream().engine, x, w, memory::desc({p.m, p.n}, kBf16, Tag::ab));
  return job(dnnl::matmul(desc),
             {{DNNL_ARG_SRC, random_memory(x)},
              {DNNL_ARG_WEIGHTS, random_memory(desc.weights_desc())},
              {DNNL_ARG_DST, random_memory(desc.dst_desc())}},
             threads);
}

Job onednn_conv(const Conv& v, ConvPart part, int threads, bool bf16) {
  omp_set_num_threads(threads);
  const auto any = Tag::any;
  const auto kind = bf16 ? kBf16 : kFloat;
  const memory::desc x({v.n, v.c, v.h, v.w}, kind, any), y({v.n, v.out, v.out_h(), v.out_w()}, kind, any);
  const memory::desc w = v.groups == 1 ? memory::desc({v.out, v.c, v.kh, v.kw}, kind, any)
                                       : memory::desc({v.groups, v.group_out(), v.group_in(), v.kh, v.kw}, kind, any);
  const memory::dims stride{v.stride_h, v.stride_w}, dilation{v.dilation_h - 1, v.dilation_w - 1};
  const memory::dims low{v.pad_top, v.pad_left}, high{v.pad_bottom, v.pad_right};
  const auto direct = dnnl::algorithm::convolution_direct;
  const auto& engine = stream().engine;
  const dnnl::convolution_forward::primitive_desc forward(engine, dnnl::prop_kind::forward_training, direct, x, w, y,
                                                          stride, dilation, low, high);
  if (part == ConvPart::forward)
    return job(dnnl::convolution_forward(forward),
               {{DNNL_ARG_SRC, random_memory(forward.src_desc())},
                {DNNL_ARG_WEIGHTS, random_memory(forward.weights_desc())},
                {DNNL_ARG_DST, random_memory(forward.dst_desc())}},
               threads);
  if (part == ConvPart::backward_input) {
    const dnnl::convolution_backward_data::primitive_desc d(engine, direct, x, w, y, stride, dilation, low, high,
                                                            forward);
    return job(dnnl::convolution_backward_data(d),
               {{DNNL_ARG_DIFF_DST, random_memory(d.diff_dst_desc())},
                {DNNL_ARG_WEIGHTS, random_memory(d.weights_desc())},
                {DNNL_ARG_DIFF_SRC, random_memory(d.diff_src_desc())}},
               threads);
  }
  const dnnl::convolution_backward_weights::primitive_desc d(engine, direct, x, w, y, stride, dilation, low, high,
                                                             forward);
  return job(dnnl::convolution_backward_weights(d),
             {{DNNL_ARG_SRC, random_memory(d.src_desc())},
              {DNNL_ARG_DIFF_DST, random_memory(d.diff_dst_desc())},
              {DNNL_ARG_DIFF_WEIGHTS, random_memory(d.diff_weights_desc())}},
             threads);
}

}  // namespace thalweg::bench
