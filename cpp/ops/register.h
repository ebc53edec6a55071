// register.h: every file of this folder, by the function that adds its operators to the table.
#pragma once
#include "operator.h"

namespace thalweg {

void register_elementwise(Registry&);
void register_activation(Registry&);
void register_reduce(Registry&);
void register_shape(Registry&);
void register_matmul(Registry&);
void register_linear(Registry&);
void register_conv2d(Registry&);
void register_pooling(Registry&);
void register_batch_norm(Registry&);
void register_batch_norm_inference(Registry&);
void register_layer_norm(Registry&);
void register_dropout(Registry&);
void register_convert(Registry&);
void register_softmax(Registry&);
void register_loss(Registry&);
void register_cross_entropy(Registry&);

}  // namespace thalweg
