// program_build.cpp: from a graph to a program, in the order of the calls in build().
#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "../formula/random.h"
#include "../ops/kernels.h"
#include "buckets.h"
#include "fuse.h"
#include "memory.h"
#include "program.h"

namespace thalweg {
namespace {

constexpr int64_t kMostFilled = 1 << 20;  // bytes of a constant that is repeated: larger ones would stay in memory

bool is_reshape(const Node& n) { return n.name == "reshape" || n.name == "reshape_like"; }

}  // namespace

class ProgramBuilder {
 public:
  ProgramBuilder(const Graph& g, Program& p)
      : g_(g), p_(p), nodes_(p.nodes_), live_(g.nodes().size(), 0), uses_(g.values(), 0) {
    nodes_ = g.nodes();
  }

  void build() {
    give_rows();
    prune();
    fill_values();
    count_uses();
    if (!is_dual(p_.spec_.number)) fuse(nodes_, live_, uses_);  // kernels on duals have no joined forms
    emit_nodes();
    place_gradients();
    add_buckets();
    lay_out();
    fill_constants();
  }

 private:
  int64_t bytes_of_value(Value v) const {
    const Type& t = p_.types_[v];
    const int64_t plane = align_up(t.shape.size() * element_bytes(p_.spec_.number, t.kind));
    return t.kind == Kind::real && is_dual(p_.spec_.number) ? 2 * plane : plane;
  }

  void give_rows() {
    for (Value v = 0; v < g_.values(); v++) {
      p_.types_.push_back(g_.type(v));
      if (g_.type(v).batched()) p_.types_[v].shape[0] = p_.spec_.cut.rows();
      check_size(p_.types_[v].shape, p_.spec_.cut.rows_global, " rows: a value of ");
    }
  }

  void prune() {
    std::vector<Value> todo = p_.spec_.outputs;
    for (auto& [value, offset] : p_.spec_.gradients) todo.push_back(value);
    while (!todo.empty()) {
      const Value v = todo.back();
      todo.pop_back();
      const int n = g_.info(v).node;
      if (n < 0 || live_[n]) continue;
      live_[n] = 1;
      const Node& node = nodes_[n];
      for (size_t i = 0; i < node.in.size(); i++)
        if (reads(node, i)) todo.push_back(node.in[i]);
    }
  }
  static bool reads(const Node& n, size_t i) { return !n.op || !(n.op->shape_only >> i & 1); }

  // A constant that is repeated, as where a gradient starts, is filled once and for all, not in every step. Which ones
  // are small enough is asked of the rank with the most rows: all ranks must decide alike, or they would come to their
  // collectives in different orders.
  void fill_values() {
    for (size_t n = 0; n < live_.size(); n++) {
      const Node& node = nodes_[n];
      if (!live_[n] || node.name != "expand" || g_.info(node.in[0]).role != Role::constant) continue;
      if (is_external(node.in[0]) || is_external(node.out[0]) || most_bytes(node.out[0]) > kMostFilled) continue;
      live_[n] = 0;
      filled_[node.out[0]] = g_.info(node.in[0]).constant;
    }
  }

  int64_t most_bytes(Value v) const {
    Type t = g_.type(v);
    if (t.batched()) {
      const std::vector<int64_t>& first = p_.spec_.cut.first_row;
      t.shape[0] = 0;
      for (size_t r = 1; r < first.size(); r++) t.shape[0] = std::max(t.shape[0], first[r] - first[r - 1]);
    }
    return t.shape.size() * element_bytes(p_.spec_.number, t.kind);
  }

  // How many instructions still read each value; outputs are read at the end.
  void count_uses() {
    for (size_t n = 0; n < live_.size(); n++)
      if (live_[n])
        for (size_t i = 0; i < nodes_[n].in.size(); i++)
          if (reads(nodes_[n], i)) uses_[nodes_[n].in[i]]++;
    for (Value v : p_.spec_.outputs) uses_[v]++;
    for (auto& [value, offset] : p_.spec_.gradients) uses_[value]++;
  }

  int new_block(Home home, int64_t bytes, int64_t offset = 0) {
    p_.blocks_.push_back({home, bytes, offset, -1, -1, nullptr});
    block_uses_.push_back(0);
    return int(p_.blocks_.size()) - 1;
  }
  bool is_external(Value v) const {
    return std::find(p_.spec_.external.begin(), p_.spec_.external.end(), v) != p_.spec_.external.end();
  }
  void give_block(Value v, int block) {
    p_.block_of_[v] = block;
    block_uses_[block] += uses_[v];
  }

  // The memory of values that no instruction makes.
  int source_block(Value v) {
    if (p_.block_of_[v] >= 0) return p_.block_of_[v];
    const ValueInfo& info = g_.info(v);
    const int64_t element = bytes_of(dtype_of(p_.spec_.number));
    auto in_arena = [&](const std::map<Value, int64_t>& arena, Home home) {
      auto it = arena.find(v);
      if (it == arena.end()) fail("'", info.name, "' is used by the plan but not bound");
      return new_block(home, bytes_of_value(v), it->second * element);
    };
    int block;
    if (is_external(v)) block = new_block(Home::external, bytes_of_value(v));
    else if (info.role == Role::constant || filled_.count(v)) block = new_block(Home::constant, bytes_of_value(v));
    else if (info.role == Role::parameter) block = in_arena(p_.spec_.parameters, Home::parameter);
    else if (info.role == Role::buffer) block = in_arena(p_.spec_.buffers, Home::buffer);
    else fail("input '", info.name, "' is used by the plan but not bound");
    give_block(v, block);
    return block;
  }

  void emit_nodes() {
    p_.block_of_.assign(g_.values(), -1);
    made_at_.assign(g_.values(), -1);
    for (int n : order()) emit(n);
    for (Value v : p_.spec_.outputs) source_if_unmade(v);
    for (auto& [value, offset] : p_.spec_.gradients) source_if_unmade(value);
  }

  // Among ranks what is exchanged comes early.
  std::vector<int> order() const {
    std::map<Value, int64_t> exchanged;  // and how many elements
    for (auto& [value, offset] : p_.spec_.gradients)
      if (p_.spec_.cut.world > 1 && p_.types_[value].place == Placement::partial)
        exchanged[value] = p_.types_[value].shape.size();
    return exchanged_first(nodes_, live_, exchanged);
  }
  void source_if_unmade(Value v) {
    if (g_.info(v).node < 0 || filled_.count(v)) source_block(v);
  }

  // A reshape is its input; so is a collective among one rank. Their memory is shared, no instruction is made.
  bool shares_input(const Node& n) const {
    const bool same = is_reshape(n) || (!n.op && p_.spec_.cut.world == 1);
    return same && !is_external(n.out[0]);
  }

  void emit(int index) {
    const Node& n = nodes_[index];
    Instruction ins;
    ins.node = index;
    for (size_t i = 0; i < n.in.size(); i++) ins.in_block.push_back(reads(n, i) ? source_block(n.in[i]) : -1);
    if (shares_input(n)) {
      give_block(n.out[0], ins.in_block[0]);
      made_at_[n.out[0]] = made_at_[n.in[0]];
      block_uses_[ins.in_block[0]]--;
      return;
    }
    for (size_t i = 0; i < n.in.size(); i++)
      if (ins.in_block[i] >= 0) block_uses_[ins.in_block[i]]--;
    if (Lead lead = leader_of(n, ins); lead.at >= 0) return join(std::move(lead), index, std::move(ins));
    for (Value o : n.out) {
      const int shared = o == n.out[0] ? reusable_input(n, ins) : -1;
      const Home home = is_external(o) ? Home::external : Home::activation;
      give_block(o, shared >= 0 ? shared : new_block(home, bytes_of_value(o)));
      ins.out_block.push_back(p_.block_of_[o]);
    }
    if (n.op) ins.kernel = n.op->kernel(site(n));
    else describe_collective(n, ins);
    for (Value o : n.out) made_at_[o] = int(p_.code_.size());
    add(std::move(ins));
  }

  struct Lead {
    int at = -1;
    BlockKernel kernel;  // of the node that follows
  };
  // The instruction that makes an operand of this elementwise node and can run it on each part of its result; -1 where
  // there is none, or another operand is made later. Only the operand's last reader follows, or the very next node:
  // results of many readers would all be in memory at once.
  Lead leader_of(const Node& n, const Instruction& ins) {
    if (!n.op || !n.op->block || n.out.size() != 1) return {};
    for (size_t i = 0; i < n.in.size(); i++) {
      const Value v = n.in[i];
      const int at = made_at_[v];
      if (at < 0 || p_.code_[at].node < 0 || !makes_parts(p_.code_[at], v)) continue;
      const bool ready = std::all_of(n.in.begin(), n.in.end(), [&](Value w) { return w == v || made_at_[w] < at; });
      const bool reads_all = std::all_of(ins.in_block.begin(), ins.in_block.end(), [](int b) { return b >= 0; });
      if (!ready || !reads_all) continue;
      if (block_uses_[ins.in_block[i]] > 0 && at + 1 < int(p_.code_.size())) continue;
      if (BlockKernel kernel = n.op->block(site(n))) return {at, std::move(kernel)};
    }
    return {};
  }
  bool makes_parts(const Instruction& ins, Value v) const {
    const Node& lead = nodes_[ins.node];
    if (!lead.op || !lead.op->leads) return false;
    if (lead.out[0] == v) return true;
    return std::any_of(ins.then.begin(), ins.then.end(), [&](const Then& t) { return nodes_[t.node].out[0] == v; });
  }

  // The node runs inside instruction `lead`, so its memory is in use from there on. It may take that of the operand
  // made there, if nobody reads this in between or later.
  void join(Lead leader, int index, Instruction ins) {
    const int lead = leader.at;
    const Node& n = nodes_[index];
    const Value o = n.out[0];
    int block = -1;
    for (size_t i = 0; i < n.in.size() && block < 0 && !is_external(o); i++)
      if (n.op->inplace >> i & 1 && made_at_[n.in[i]] == lead && is_free_after(lead, ins.in_block[i]))
        block = ins.in_block[i];
    if (block < 0) block = new_block(is_external(o) ? Home::external : Home::activation, bytes_of_value(o));
    give_block(o, block);
    for (int b : ins.in_block) touch(b, lead);
    touch(block, lead);
    made_at_[o] = lead;
    p_.code_[lead].then.push_back({index, ins.in_block, {block}});
    Follower follower{std::move(leader.kernel), {}, {}, {}};
    for (Value v : n.in)
      follower.far_bytes.push_back(made_at_[v] == lead ? 0 : element_bytes(p_.spec_.number, p_.types_[v].kind));
    p_.code_[lead].followers.push_back(std::move(follower));
  }
  bool is_free_after(int lead, int block) const {
    if (p_.blocks_[block].home != Home::activation || block_uses_[block] > 0) return false;
    for (size_t k = size_t(lead) + 1; k < p_.code_.size(); k++) {
      const Instruction& i = p_.code_[k];
      auto reads = [block](const std::vector<int>& in) { return std::find(in.begin(), in.end(), block) != in.end(); };
      if (reads(i.in_block) || std::any_of(i.then.begin(), i.then.end(), [&](auto& t) { return reads(t.in_block); }))
        return false;
    }
    return true;
  }

  // The block of an input that this node may overwrite: nobody reads it later, and it is as large as the output.
  int reusable_input(const Node& n, const Instruction& ins) const {
    if (is_external(n.out[0])) return -1;
    for (size_t i = 0; i < n.in.size(); i++) {
      const int b = ins.in_block[i];
      const bool allowed = !n.op ? i == 0 : (n.op->inplace >> i & 1);
      if (allowed && b >= 0 && p_.blocks_[b].home == Home::activation && block_uses_[b] == 0 &&
          bytes_of_value(n.in[i]) == bytes_of_value(n.out[0]) && p_.types_[n.in[i]].shape == p_.types_[n.out[0]].shape)
        return b;
    }
    return -1;
  }

  Site site(const Node& n) {
    in_types_.clear();
    out_types_.clear();
    for (Value v : n.in) in_types_.push_back(p_.types_[v]);
    for (Value v : n.out) out_types_.push_back(p_.types_[v]);
    return {in_types_,         out_types_, n.attrs, p_.spec_.number, p_.spec_.cut.shards, p_.spec_.cut.rows_global,
            stream_key(n.path)};
  }

  void describe_collective(const Node& n, Instruction& ins) {
    if (is_dual(p_.spec_.number)) fail("a plan on dual numbers runs on one rank");
    const Shape& s = p_.types_[n.in[0]].shape;
    ins.kind = n.name == kAllReduce ? Instruction::Kind::all_reduce : Instruction::Kind::merge_moments;
    ins.elements = n.name == kAllReduce ? s.size() : s[1];
    if (n.attrs.has("inner")) ins.inner = n.attrs.integer("inner");
  }

  void touch(int block, int at) {
    if (block < 0) return;
    auto& b = p_.blocks_[block];
    if (b.first < 0) b.first = at;
    b.last = std::max(b.last, at);
  }
  void add(Instruction ins) {
    for (int b : ins.in_block) touch(b, int(p_.code_.size()));
    for (int b : ins.out_block) touch(b, int(p_.code_.size()));
    p_.code_.push_back(std::move(ins));
  }

  // Gradients are made in their arena. One that is not an activation of its own (a value that serves two parameters, or
  // an input passed through) is copied there.
  void place_gradients() {
    const int64_t element = bytes_of(dtype_of(p_.spec_.number));
    for (auto& [value, offset] : p_.spec_.gradients) {
      auto& b = p_.blocks_[p_.block_of_[value]];
      const bool own =
          b.home == Home::activation && b.bytes == bytes_of_value(value) && !placed_.count(p_.block_of_[value]);
      if (own) {
        b.home = Home::gradient;
        b.offset = offset * element;
        placed_.insert(p_.block_of_[value]);
        continue;
      }
      const int to = new_block(Home::gradient, bytes_of_value(value), offset * element);
      const int64_t bytes = p_.types_[value].shape.size() * element;
      Instruction copy;
      copy.in_block = {p_.block_of_[value]};
      copy.out_block = {to};
      copy.kernel = [bytes](const Launch& l) { std::memcpy(l.out[0].data, l.in[0].data, bytes); };
      add(std::move(copy));
      p_.blocks_[to].first = p_.blocks_[to].last;
      made_by_copy_[value] = int(p_.code_.size()) - 1;
    }
  }

  // Partial gradients are summed over the ranks in buckets; a bucket follows the last of its gradients.
  void add_buckets() {
    if (p_.spec_.cut.world == 1) return;
    std::vector<Bucket> ready;  // one range each
    for (auto& [value, offset] : p_.spec_.gradients) {
      if (p_.types_[value].place != Placement::partial) continue;
      const auto copied = made_by_copy_.find(value);
      const int at = copied != made_by_copy_.end() ? copied->second : p_.blocks_[p_.block_of_[value]].last;
      ready.push_back({at, {{offset, offset + p_.types_[value].shape.size()}}});
    }
    std::vector<Bucket> buckets =
        make_buckets(std::move(ready), bytes_of(dtype_of(p_.spec_.number)), p_.spec_.bucket_bytes);
    for (auto it = buckets.rbegin(); it != buckets.rend(); ++it) {
      Instruction bucket;
      bucket.kind = Instruction::Kind::bucket;
      bucket.ranges = std::move(it->ranges);
      insert_after(it->at, std::move(bucket));
    }
    if (buckets.empty()) return;
    Instruction finish;
    finish.kind = Instruction::Kind::finish;
    p_.code_.push_back(std::move(finish));
  }

  void insert_after(int at, Instruction ins) {
    p_.code_.insert(p_.code_.begin() + at + 1, std::move(ins));
    for (auto& b : p_.blocks_) {
      if (b.first > at) b.first++;
      if (b.last > at) b.last++;
    }
  }

  void lay_out() {
    const int end = int(p_.code_.size());
    for (Value v : p_.spec_.outputs) p_.blocks_[p_.block_of_[v]].last = end;
    std::vector<Lifetime> lives;
    std::vector<int> which;
    for (size_t b = 0; b < p_.blocks_.size(); b++) {
      if (p_.blocks_[b].home != Home::activation) continue;
      lives.push_back({p_.blocks_[b].bytes, p_.blocks_[b].first, p_.blocks_[b].last});
      which.push_back(int(b));
    }
    p_.activation_bytes_ = place_blocks(lives);
    for (size_t i = 0; i < lives.size(); i++) p_.blocks_[which[i]].offset = lives[i].offset;
  }

  void fill_constants() {
    int64_t bytes = 0;
    for (auto& b : p_.blocks_)
      if (b.home == Home::constant) b.offset = std::exchange(bytes, bytes + align_up(b.bytes));
    p_.constants_ = Arena(bytes);
    for (Value v = 0; v < g_.values(); v++)
      if (g_.info(v).role == Role::constant) fill(v, g_.info(v).constant);
    for (auto& [v, constant] : filled_) fill(v, constant);
  }
  void fill(Value v, double x) {
    if (p_.block_of_[v] < 0) return;
    std::byte* at = p_.constants_.data() + p_.blocks_[p_.block_of_[v]].offset;
    const int64_t n = p_.types_[v].shape.size();
    if (dtype_of(p_.spec_.number) == DType::f32) std::fill_n(reinterpret_cast<float*>(at), n, float(x));
    else std::fill_n(reinterpret_cast<double*>(at), n, x);
  }

  const Graph& g_;
  Program& p_;
  std::vector<Node>& nodes_;
  std::vector<char> live_;
  std::vector<int> uses_;        // of each value, in all
  std::vector<int> block_uses_;  // of each block, still to come
  std::vector<int> made_at_;     // of each value: the instruction that makes it, -1 where none does
  std::set<int> placed_;
  std::map<Value, int> made_by_copy_;
  std::map<Value, double> filled_;  // values that are one constant, repeated
  std::vector<Type> in_types_, out_types_;
};

Program::Program(const Graph& graph, BuildSpec spec) : graph_(graph), spec_(std::move(spec)) {
  ProgramBuilder(graph, *this).build();
}

}  // namespace thalweg
