// The families that this program is built with: two functions each, of a folder of models/.
#pragma once

#include <spillway/trainer/model.h>

#include <memory>

namespace spillway::trainer {

class ModelSpec;
class ModelUnits;

const ModelFamily& gpt2_family();  // models/gpt2/family.cc
std::unique_ptr<ModelUnits> add_gpt2_units(ModelSpec& spec, const ModelConfig& model);  // model.cc

}  // namespace spillway::trainer
