#include "fuse.h"

#include <algorithm>

#include "../ops/kernels.h"

namespace thalweg {
namespace {

constexpr char kActivation[] = "activation";

class Fuser {
 public:
  Fuser(std::vector<Node>& nodes, std::vector<char>& live, std::vector<int>& uses)
      : nodes_(nodes), live_(live), uses_(uses), maker_(uses.size(), -1), readers_(uses.size()) {
    for (int n = 0; n < int(nodes_.size()); n++) {
      if (!live_[n]) continue;
      for (Value v : nodes_[n].out) maker_[v] = n;
      for (Value v : nodes_[n].in) readers_[v].push_back(n);
    }
  }

  void run() {
    for (int n = 0; n < int(nodes_.size()); n++)
      if (live_[n]) join_forward(n);
    for (int n = 0; n < int(nodes_.size()); n++)
      if (live_[n]) join_backward(n);
    for (int n = 0; n < int(nodes_.size()); n++)
      if (live_[n]) join_gradient(n);
  }

 private:
  Node* live_node(int n) { return n >= 0 && live_[n] && nodes_[n].op ? &nodes_[n] : nullptr; }
  static bool takes(const Node& n, const std::string& activation) {
    return n.op->activations == activation && !n.attrs.has(kActivation);
  }
  void drop(int n) {
    live_[n] = 0;
    for (Value v : nodes_[n].in) uses_[v]--;
  }

  // y = activation(v), v = producer(...): the producer makes y.
  void join_forward(int n) {
    const Node& activation = nodes_[n];
    if (!activation.op || activation.in.size() != 1 || uses_[activation.in[0]] != 1) return;
    Node* producer = live_node(maker_[activation.in[0]]);
    if (!producer || !takes(*producer, activation.name)) return;
    drop(n);
    maker_[activation.out[0]] = maker_[activation.in[0]];
    producer->out[0] = activation.out[0];
    producer->attrs.set(kActivation, activation.name);
  }

  // d_v = activation_backward(d_y, y): read by nothing but backward operators of the producer that made y from the same
  // x. They read d_y instead.
  void join_backward(int n) {
    const Node& activation = nodes_[n];
    if (!activation.op || activation.in.size() != 2) return;
    const Node* producer = live_node(maker_[activation.in[1]]);
    if (!producer || !producer->attrs.has(kActivation)) return;
    const std::string name = producer->attrs.text(kActivation, "");
    if (activation.name != name + "_backward") return;
    const Value d_v = activation.out[0], d_y = activation.in[0];
    const std::vector<int>& readers = readers_[d_v];
    const bool all = int(readers.size()) == uses_[d_v] && std::all_of(readers.begin(), readers.end(), [&](int r) {
                       const Node& reader = nodes_[r];
                       return live_[r] && reader.op && takes(reader, name) && reader.in[0] == d_v &&
                              reader.name.starts_with(producer->name + "_backward") && reader.in[1] == producer->in[0];
                     });
    if (!all) return;
    drop(n);
    for (int r : readers) {
      nodes_[r].in[0] = d_y;
      nodes_[r].attrs.set(kActivation, name);
      uses_[d_y]++;
    }
  }

  // d_x = loss_backward(d_loss, x, ...), d_loss made by no node: the operator that makes the loss of x makes d_x too.
  void join_gradient(int n) {
    Node& loss = nodes_[n];
    if (!loss.op || !*loss.op->with_gradient) return;
    const std::vector<int>& readers = readers_[loss.in[0]];
    const auto found = std::find_if(readers.begin(), readers.end(), [&](int r) {
      const Node& back = nodes_[r];
      return live_[r] && back.name == loss.name + "_backward" && maker_[back.in[0]] < 0 &&
             std::equal(loss.in.begin(), loss.in.end(), back.in.begin() + 1, back.in.end()) &&
             back.attrs.all() == loss.attrs.all();
    });
    if (found == readers.end()) return;
    const Node& back = nodes_[*found];
    for (Value v : loss.in) uses_[v]--;  // they are read once now
    live_[*found] = 0;
    loss.op = kernels().operators.find(loss.op->with_gradient);
    loss.name = loss.op->name;
    loss.in = back.in;
    loss.out.push_back(back.out[0]);
    maker_[back.out[0]] = n;
  }

  std::vector<Node>& nodes_;
  std::vector<char>& live_;
  std::vector<int>& uses_;
  std::vector<int> maker_;  // of each value: the live node that makes it
  std::vector<std::vector<int>> readers_;
};

}  // namespace

void fuse(std::vector<Node>& nodes, std::vector<char>& live, std::vector<int>& uses) { Fuser(nodes, live, uses).run(); }

}  // namespace thalweg
