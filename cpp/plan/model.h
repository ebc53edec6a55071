// model.h: what trainings of one network share: its graphs, differentiated, and the layout of its parameters.
#pragma once
#include <memory>

#include "precision.h"

namespace thalweg {

// What a graph's author names: see Model in _core.pyi.
struct Recording {
  Graph graph;
  std::vector<Value> inputs;
  Value loss;
  std::vector<Value> metrics, outputs;
};

struct Model {
  // groups: of the parameters whose rates differ from those of group 0.
  Model(Recording train, Recording evaluate, const std::map<std::string, int>& groups,
        Precision precision = Precision::full);
  Recorded train, evaluate, predict;
  Layout layout;
  int groups = 1;
  Precision precision;
};

}  // namespace thalweg
