// tile.cpp: the register tile, one instance for each height, width and form of A.
#include "tile.h"

#include <utility>

namespace thalweg {
namespace {

// What tiles of form rows ask for, a little with every kStepK k: asked for in one go, the processor would stand still
// until most of it has come.
template <class T, int kRows, int kVectors>
class Requests {
 public:
  explicit Requests(const TileCall<T>& c)
      : out_ahead_(c.out_ahead), ahead_(c.ahead), lines_(c.ahead_lines), row_step_(c.out_rows) {}
  // `next`: another tile follows, whose rows are asked for: the processor does not foresee where they lie.
  void begin(T* const* out, bool next) { out_ = out, row_ = out && out_ahead_ ? 0 : kRows, next_ = next; }
  TW_INLINE void ask() {
    for (const int stop = std::min(row_ + row_step_, kRows); row_ < stop; row_++)
      TW_UNROLL for (int v = 0; v < kVectors; v++) __builtin_prefetch(out_[row_] + out_ahead_ + v * kLanes<T>, 1);
    for (int i = 0; i < lines_; i++, ahead_ += kLineBytes) __builtin_prefetch(ahead_, 0, 3);
  }
  // At k, `passed` k after the first of a run: some of the next rows. Every line of a long run is asked for once.
  TW_INLINE void ask_rows(const T* const* row, int64_t k, int64_t passed) {
    constexpr int kParts = kLineBytes / int64_t(sizeof(T)) / kStepK, kPart = (kRows + kParts - 1) / kParts;
    if (!next_) return;
    const T* const* part = row + kRows + passed / kStepK % kParts * kPart;
    TW_UNROLL for (int i = 0; i < kPart; i++) __builtin_prefetch(part[i] + k);
  }

 private:
  T* const* out_ = nullptr;
  int64_t out_ahead_;
  const std::byte* ahead_;
  int lines_, row_step_, row_ = kRows;  // outputs from row_ on are yet to be asked for
  bool next_ = false;
};

template <class T, int kRows, int kVectors>
struct Tile {
  static constexpr int W = kLanes<T>;
  Vector<T> acc[kRows][kVectors];

  TW_INLINE void zero() {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] = Vector<T>{};
  }
  // at(i): address of row i.
  template <class At>
  TW_INLINE void take(At at) {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] =
        load(at(i) + v * W);
  }
  template <class At>
  TW_INLINE void add(At at) {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] =
        load(at(i) + v * W) + acc[i][v];
  }
  template <class At>
  TW_INLINE void put(At at) const {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++)
        store(at(i) + v * W, acc[i][v]);
  }
  template <class At>
  TW_INLINE void put_far(At at) const {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++)
        store_far(at(i) + v * W, acc[i][v]);
  }
  // One k: A(i, k) is *at(i).
  template <class At>
  TW_INLINE void multiply(At at, const T* b) {
    Vector<T> bv[kVectors];
    TW_UNROLL for (int v = 0; v < kVectors; v++) bv[v] = load(b + v * W);
    TW_UNROLL for (int i = 0; i < kRows; i++) {
      if constexpr (kVectors == 1) {
        fma_splat(acc[i][0], *at(i), bv[0]);
      } else {
        const Vector<T> av = splat(*at(i));
        TW_UNROLL for (int v = 0; v < kVectors; v++) fma_to(acc[i][v], av, bv[v]);
      }
    }
  }
  template <bool ask>
  TW_INLINE void sum_columns(const TileCall<T>& c, const Chain& s, const T* b, const std::byte*& ahead) {
    for (const KSegment *g = c.segment + s.segment, *end = g + s.segments; g != end; g++) {
      for (int i = 0; i < c.ahead_lines; i++, ahead += kLineBytes) __builtin_prefetch(ahead, 0, 2);
      run_columns<ask>(c, *g, b + g->b);
    }
  }
  template <bool ask>
  TW_INLINE void run_columns(const TileCall<T>& c, const KSegment& g, const T* b) {
    const T* a = c.a + g.a;
    _Pragma("GCC unroll 2") for (int64_t k = 0; k < g.count; k++, a += c.a_step, b += c.b_step) {
      if constexpr (ask) {
        for (int i : {0, kRows - 1}) __builtin_prefetch(a + c.a_ahead + i, 0, 3);
        TW_UNROLL for (int v = 0; v < kVectors; v++) __builtin_prefetch(b + c.b_ahead + v * W, 0, 2);
      }
      multiply([=](int i) { return a + i; }, b);
    }
  }
  TW_INLINE void add(const Tile& newer) {
    TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++) acc[i][v] =
        acc[i][v] + newer.acc[i][v];
  }
  static constexpr int kShort = 4;
  TW_INLINE void leaf(const TileCall<T>& c, const Chain& s, const T* a, const T* b) {
    zero();
    const KSegment* const g = c.segment + s.segment;
    if (s.segments == 1 && g->count == kShort) {  // the loop would take as long as its steps
      a += g->a, b += g->b;
      TW_UNROLL for (int k = 0; k < kShort; k++, a += c.a_step, b += c.b_step)
          multiply([=](int i) { return a + i; }, b);
    } else if (s.segments == 1) {
      a += g->a, b += g->b;
      for (int64_t k = 0; k < g->count; k++, a += c.a_step, b += c.b_step) multiply([=](int i) { return a + i; }, b);
    }
  }
  // The sum of the leaves [s, s + kLeaves), in their tree.
  template <int kLeaves>
  TW_INLINE void fold(const TileCall<T>& c, const Chain* s, const T* a, const T* b) {
    if constexpr (kLeaves == 1) {
      leaf(c, *s, a, b);
    } else {
      fold<kLeaves / 2>(c, s, a, b);
      Tile newer;
      newer.template fold<kLeaves / 2>(c, s + kLeaves / 2, a, b);
      add(newer);
    }
  }
  TW_INLINE void sum_rows(const TileCall<T>& c, const Chain& s, const T* const* row,
                          Requests<T, kRows, kVectors>& soon) {
    const KSegment *g = c.segment + s.segment, *const end = g + s.segments, *const cut = g + s.pieces;
    run_pieces(row, g, cut, c.b, c.b_step, soon);
    for (g = cut; g != end; g++) run_rows(row, g->a, c.b + g->b, c.b_step, g->count, soon);
  }
  // Row pointers stay in memory: 14 of them exceed the registers. With two vectors a load port is free to fetch them
  // for each k; with one they serve kStepK of them.
  TW_INLINE void run_rows(const T* const* row, int64_t a, const T* b, int64_t b_step, int64_t count,
                          Requests<T, kRows, kVectors>& soon) {
    int64_t k = a;
    for (const int64_t end = a + count - kStepK + 1; k < end; k += kStepK, b += kStepK * b_step) {
      soon.ask();
      soon.ask_rows(row, k, k - a);
      run_steps<kStepK>(row, k, b, b_step);
    }
    for (; k < a + count; k++, b += b_step) multiply([=](int i) { return row[i] + k; }, b);
  }
  TW_INLINE void run_pieces(const T* const* row, const KSegment* g, const KSegment* end, const T* b, int64_t b_step,
                            Requests<T, kRows, kVectors>& soon) {
    for (; g != end; g++) {
      soon.ask();
      run_steps<kPiece>(row, g->a, b + g->b, b_step);
    }
  }
  template <int kSteps>
  TW_INLINE void run_steps(const T* const* row, int64_t k, const T* b, int64_t b_step) {
    if constexpr (kVectors == 1) multiply_row<kSteps>(row, k, b, b_step);
    else TW_UNROLL for (int u = 0; u < kSteps; u++) multiply([=](int i) { return row[i] + k + u; }, b + u * b_step);
  }
  template <int kSteps>
  TW_INLINE void multiply_row(const T* const* row, int64_t k, const T* b, int64_t b_step) {
    Vector<T> bv[kSteps];
    TW_UNROLL for (int u = 0; u < kSteps; u++) bv[u] = load(b + u * b_step);
    TW_UNROLL for (int i = 0; i < kRows; i++) {
      const T* const at = row[i] + k;
      TW_UNROLL for (int u = 0; u < kSteps; u++) fma_splat(acc[i][0], at[u], bv[u]);
    }
  }
};

template <class T, TileForm form, int kRows, int kVectors>
TW_INLINE void run_one(const TileCall<T>& c) {
  const std::byte* ahead = c.ahead;
  Requests<T, kRows, kVectors> soon(c);  // of form rows
  const T *const *row = c.row, *b = c.b;
  T* const* out = c.out;
  int64_t j = 0;  // first column in out and bias
  for (int64_t left = form == TileForm::rows ? c.tiles : c.panels; left > 0; left--) {
    if (form != TileForm::rows && c.ask)
      TW_UNROLL for (int i = 0; i < kRows; i++) TW_UNROLL for (int v = 0; v < kVectors; v++)
          __builtin_prefetch(out[i] + j + v * kLanes<T>, 1);
    if constexpr (form == TileForm::rows) soon.begin(out, left > 1 || c.follows);
    for (const Chain* s = c.first; s != c.last; s++) {
      Tile<T, kRows, kVectors> t;
      T* slot = c.stack + s->slot * kTileSize<T>;
      const auto sum = [=](int m) { return [at = slot + m * kTileSize<T>](int i) { return at + i * kPanel<T>; }; };
      if (s->resumes) t.take(sum(s->adds));
      else t.zero();
      if constexpr (form == TileForm::rows) t.sum_rows(c, *s, row, soon);
      else t.template sum_columns<form == TileForm::columns_ahead>(c, *s, b, ahead);
      for (int m = s->adds; m-- > 0;) t.add(sum(m));
      if (s + 1 == c.last && out) {
        const auto to = [=](int i) { return out[i] + j; };
        if (c.bias) t.add([b = c.bias + j](int) { return b; });
        if (c.accumulate) t.add(to);
        if (c.far) t.put_far(to);
        else t.put(to);
      } else {
        t.put(sum(0));
      }
    }
    if constexpr (form == TileForm::rows) row += kRows, out += kRows;
    else b += c.b_panel, j += kPanel<T>;
  }
}

// Form folded, for kRows rows from `row` on: leaves are added kMost, or half as many, at a time.
template <class T, int kRows>
void fold_rows(const TileCall<T>& c, int row, int vectors) {
  constexpr int W = kLanes<T>, kMost = 2 * kFoldLeaves, kMerges = std::bit_width(unsigned(kFoldLeaves)) - 1;
  const T* const a = c.a + row;
  for (int64_t panel = 0; panel < c.panels; panel++)
    for (int v = 0; v < vectors; v++) {
      const T* const b = c.b + panel * c.b_panel + v * W;
      const int64_t j = panel * kPanel<T> + v * W;
      if (c.ask) TW_UNROLL for (int i = 0; i < kRows; i++) __builtin_prefetch(c.out[row + i] + j, 1);
      for (const Chain *s = c.first, *next; s != c.last; s = next) {
        const bool most = c.last - s >= kMost;
        next = s + (most ? kMost : kFoldLeaves);
        Tile<T, kRows, 1> t;
        if (most) t.template fold<kMost>(c, s, a, b);
        else t.template fold<kFoldLeaves>(c, s, a, b);
        T* slot = c.stack + next[-1].slot * kTileSize<T> + row * kPanel<T> + v * W;
        const auto sum = [=](int m) { return [at = slot + m * kTileSize<T>](int i) { return at + i * kPanel<T>; }; };
        for (int m = next[-1].adds - (most ? kMerges + 1 : kMerges); m-- > 0;) t.add(sum(m));
        if (next == c.last && c.out) {
          const auto to = [=](int i) { return c.out[row + i] + j; };
          if (c.accumulate) t.add(to);
          if (c.far) t.put_far(to);
          else t.put(to);
        } else {
          t.put(sum(0));
        }
      }
    }
}

template <class T, TileForm form, int kRows, int kVectors>
void run_tile(const TileCall<T>& c) {
  if constexpr (form == TileForm::folded) {  // half of the rows leave room for all the sums of a tree
    constexpr int kUpper = (kRows + 1) / 2, kLower = kRows - kUpper;
    fold_rows<T, kUpper>(c, 0, kVectors);
    if constexpr (kLower > 0) fold_rows<T, kLower>(c, kUpper, kVectors);
  } else {
    run_one<T, form, kRows, kVectors>(c);
  }
}

template <class T, TileForm form, int kVectors, int... kIndex>
TileFunction<T> pick(int rows, std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<T> table[] = {&run_tile<T, form, kIndex + 1, kVectors>...};
  return table[rows - 1];
}
template <class T, TileForm form>
TileFunction<T> pick(int rows, int vectors) {
  constexpr std::make_integer_sequence<int, kTileRows> heights{};
  constexpr TileForm narrow = form == TileForm::columns_ahead ? TileForm::columns : form;
  return vectors == 1 ? pick<T, narrow, 1>(rows, heights) : pick<T, form, 2>(rows, heights);
}

}  // namespace

template <class T>
TileFunction<T> tile_function(TileForm form, int rows, int vectors) {
  switch (form) {
    case TileForm::rows: return pick<T, TileForm::rows>(rows, vectors);
    case TileForm::columns: return pick<T, TileForm::columns>(rows, vectors);
    case TileForm::folded:
      if constexpr (kFoldsInRegisters) return pick<T, TileForm::folded>(rows, vectors);
      else return nullptr;
    default: return pick<T, TileForm::columns_ahead>(rows, vectors);
  }
}
template TileFunction<float> tile_function(TileForm, int, int);
template TileFunction<double> tile_function(TileForm, int, int);

}  // namespace thalweg
