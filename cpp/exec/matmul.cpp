// matmul.cpp: how a product is cut for threads and shards, and which of its forms is the cheapest.
#include "matmul.h"

#include "matmul_product.h"

namespace thalweg {
using namespace matmul_detail;
namespace {

constexpr int64_t kPackedBytes = 8 << 20;  // rows of A that are packed at a time: L3
constexpr int64_t kSmallBytes = 64 << 10;  // what follows a C of this size runs on the whole of it, not on tiles
constexpr int64_t kAcross = 12, kAcrossPages = 2;  // panels of B at most, when C is made across
constexpr int64_t kShardRows = 512;                // that make a shard a product of its own
constexpr int64_t kShardBytes = 32 << 20;          // of what these give
constexpr double kPackNs = 0.1, kStartNs = 100;

// Nanoseconds of a product without the start.
double work_ns(int64_t m, int64_t n, int64_t k, int64_t moved) {
  constexpr double per_vector = 2.0 * kVectorBytes / 4 * 2.5;  // flop per ns of float
  return double(k) * (2.0 * double(m) * double(n) / per_vector + double(moved) * kPackNs);
}
// A product and where its operands lie.
template <class T>
struct Job {
  Matmul p;
  bool across;
  std::span<const int64_t> shard_k;
  const T *a, *b, *bias;
  T* c;
  Follow follow;

  double ns() const { return matmul_ns(p, sizeof(T) == 8); }
  Job part(const Grid::Cell& cell) const {
    Job j = *this;
    const int64_t at = across ? cell.column * p.c_row + cell.row : cell.row * p.c_row + cell.column;
    j.p.m = cell.rows, j.p.n = cell.columns;
    j.a += cell.row * p.a_row, j.b += cell.column * p.b_col, j.c += at;
    if (bias) j.bias += across ? cell.row : cell.column;
    j.follow = follow.from(at);
    return j;
  }
  int64_t round() const {
    const int64_t row_bytes = std::max<int64_t>(1, p.k) * int64_t(sizeof(T));
    return std::max<int64_t>(1, kPackedBytes / (row_bytes * kTileRows)) * kTileRows;
  }
  Grid grid(int threads) const {
    return Grid::of(p.m, p.n, p.k * int64_t(sizeof(T)), kPanel<T>, threads, [&](int64_t m, int64_t n) {
      const Packing pack = packing<T>(p, across, divide_up(m, kTileRows), divide_up(n, kPanel<T>));
      return work_ns(m, n, p.k, m * (1 + pack.a) + n * (1 + pack.b));
    });
  }
  MatmulProduct<T> product(int threads) const {
    MatmulProduct<T> made(p, across, shard_k, threads);
    made.bind(a, b, bias, c, follow, p.accumulate);
    return made;
  }
};

// Where both operands run along K, the one that becomes panels is turned while it is packed. That is cheaper for A when
// it has fewer rows than B has columns: B' A' then gives C across, and B is read where it lies. Its rows at multiples
// of a page share one set of L1, which few panels outweigh. And few columns would leave most lanes of a vector empty.
template <class T>
bool better_across(const Matmul& p) {
  if (p.a_col != 1 || p.b_row != 1) return false;
  const bool few = 2 * p.n <= kLanes<T> || (8 * p.n <= 5 * kLanes<T> && p.k <= kKBlock);
  if (few && p.m >= p.n) return true;
  const bool pages = p.b_col * int64_t(sizeof(T)) % 4096 == 0;
  return p.m < p.n && p.m <= (pages ? kAcrossPages : kAcross) * kPanel<T>;
}
Matmul across(const Matmul& p) {
  Matmul q = p;
  q.m = p.n, q.n = p.m;
  q.a_row = p.b_col, q.a_col = p.b_row;
  q.b_row = p.a_col, q.b_col = p.a_row;
  return q;
}

}  // namespace

template <class T>
struct MatmulMemo<T>::Decided {
  explicit Decided(const Job<T>& j)
      : across(j.across), ns(j.ns()), product(j.p, j.across, j.shard_k, 1), order(size_t(product.order_bytes())) {
    product.write_order(order.data());
  }
  // On one thread. In `accumulate` alone one run of a memo may differ from another.
  void run(const Exec& exec, bool accumulate, const T* a, const T* b, const T* bias, T* c, const Follow& follow) {
    if (across) std::swap(a, b);
    product.bind(a, b, bias, c, follow, accumulate);
    product.place_packed(exec.scratch<std::byte>(0, Slot::a_pack, product.packed_bytes()));
    run_prepared(exec, 0, product);
  }
  const bool across;
  const double ns;
  MatmulProduct<T> product;
  std::vector<std::byte> order;
};
template <class T>
MatmulMemo<T>::MatmulMemo() = default;
template <class T>
MatmulMemo<T>::~MatmulMemo() = default;

namespace {

// Runs what was decided before; else decides it, if one thread is to run it in one round.
template <class T>
bool run_decided(const Exec& exec, MatmulMemo<T>* memo, bool accumulate, const T* a, const T* b, const T* bias, T* c,
                 const Follow& follow) {
  if (!memo || !memo->decided || exec.threads_for(memo->decided->ns) > 1) return false;
  memo->decided->run(exec, accumulate, a, b, bias, c, follow);
  return true;
}
template <class T>
void run_and_keep(const Exec& exec, MatmulMemo<T>* memo, const Job<T>& j) {
  const bool alone = exec.threads_for(j.ns()) == 1 && j.round() >= j.p.m;
  if (memo && alone) memo->decided = std::make_unique<typename MatmulMemo<T>::Decided>(j);
  run_job(exec, j);
}

}  // namespace

template <class T>
void matmul(const Exec& exec, const Matmul& whole, const T* a, const T* b, const T* bias, T* c, const Follow& follow,
            MatmulMemo<T>* memo) {
  if (whole.m == 0 || whole.n == 0 || whole.batch == 0) return;
  const Matmul p = merge_batch(whole);
  const int64_t size = p.batch * p.m * p.n;
  if (follow && size * int64_t(sizeof(T)) <= kSmallBytes && p.c_row == p.n && p.c_batch == p.m * p.n * (p.batch > 1)) {
    matmul(exec, p, a, b, bias, c, {}, memo);
    return follow_all(exec, size, follow);
  }
  if (run_decided(exec, memo, p.accumulate, a, b, bias, c, follow)) return;
  const int64_t one_shard[] = {0, p.k};
  if (p.batch == 1 && better_across<T>(p))
    return run_and_keep(exec, memo, Job<T>{across(p), true, one_shard, b, a, bias, c, follow});
  if (p.batch == 1) return run_and_keep(exec, memo, Job<T>{p, false, one_shard, a, b, bias, c, follow});
  Matmul one = p;
  one.batch = 1;
  auto nth = [&](int64_t i) {
    const int64_t at = i * p.c_batch;
    return Job<T>{one, false, one_shard, a + i * p.a_batch, b + i * p.b_batch, bias, c + at, follow.from(at)};
  };
  run_jobs(exec, p.batch, nth);
}

// Each shard a product of its own on one thread, which reads those rows alone; what they give folds here.
template <class T>
void fold_products(const Exec& exec, const Matmul& p, const Shards& shards, const T* a, const T* b, T* c) {
  const int64_t size = p.m * p.n;
  T* partial = exec.scratch<T>(0, Slot::shared, shards.count() * size);
  exec.parallel(shards.count(), matmul_ns(p, sizeof(T) == 8), [&](int64_t s, int worker) {
    const int64_t k = shards.offset[size_t(s)], own[] = {0, shards.offset[size_t(s) + 1] - k};
    Matmul one = p;
    one.k = own[1], one.c_row = p.n, one.accumulate = false;
    run_alone(exec, worker, Job<T>{one, false, own, a + k * p.a_col, b + k * p.b_row, nullptr, partial + s * size, {}});
  });
  exec.parallel(p.m, double(size * shards.count()) * kPackNs, [&](int64_t i, int) {
    T* sum[64];
    fold_tree(
        shards.count(), [&](int64_t s, int level) { sum[level] = partial + s * size + i * p.n; },
        [&](int into, int from) {
          for (int64_t j = 0; j < p.n; j++) sum[into][j] += sum[from][j];
        });
    put_row<T>(sum[0], p.n, nullptr, p.accumulate, c + i * p.c_row);
  });
}

template <class T>
void matmul_fold(const Exec& exec, const Matmul& p, const Shards& shards, const T* a, const T* b, T* c,
                 MatmulMemo<T>* memo) {
  if (p.m == 0 || p.n == 0) return;
  if (run_decided<T>(exec, memo, p.accumulate, a, b, nullptr, c, {})) return;
  const int64_t count = shards.count(), partial_bytes = count * p.m * p.n * int64_t(sizeof(T));
  if (count > 1 && count >= exec.pool.threads() && p.k >= kShardRows * count && partial_bytes <= kShardBytes)
    return fold_products(exec, p, shards, a, b, c);
  run_and_keep(exec, memo, Job<T>{p, false, shards.offset, a, b, nullptr, c, {}});
}

double matmul_ns(const Matmul& p, bool is_double) {
  return double(p.batch) * (kStartNs + work_ns(p.m, p.n, p.k, p.m + p.n) * (is_double ? 2 : 1));
}

#define TW_MATMUL(T)                                                                                                 \
  template void matmul(const Exec&, const Matmul&, const T*, const T*, const T*, T*, const Follow&, MatmulMemo<T>*); \
  template void matmul_fold(const Exec&, const Matmul&, const Shards&, const T*, const T*, T*, MatmulMemo<T>*);      \
  template class MatmulMemo<T>;
TW_MATMUL(float)
TW_MATMUL(double)
#undef TW_MATMUL

}  // namespace thalweg
